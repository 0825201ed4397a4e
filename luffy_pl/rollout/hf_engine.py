"""transformers' generate as an engine: exact, slow, no extra installation.

For tiny models, debugging, and to check another engine against.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from luffy_pl.attention.own import own_attention
from luffy_pl.errors import ModelError, first_line
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.self_check import tolerances
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.engine import EngineConfig, Finished, Request, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights

ROWS_PER_BATCH = 64
CACHES = ("past_key_values", "cache_params")
"""What models call the state that they go on from."""


class SeededSampling(LogitsProcessor):
    """Turns greedy decoding into sampling, each row from its own seed (Gumbel-max).

    argmax(logit / T + g) with g ~ Gumbel(0, 1) is a draw from softmax(logit / T), and noise
    drawn per row makes a row's tokens independent of its neighbours in the batch.
    """

    def __init__(
        self, seeds: Sequence[int], sampling: Sampling, moved: Callable[[], None] = lambda: None
    ) -> None:
        self.moved = moved
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.sampling = sampling
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [N, V] to keys [N, V] whose argmax is the sampled token."""
        self.moved()  # a batch may take minutes
        scores = scores.float()
        if self.sampling.temperature == 0:
            return scores
        logprob = keep_likely(
            (scores / self.sampling.temperature).log_softmax(-1),
            top_p=self.sampling.top_p,
            top_k=self.sampling.top_k,
        )
        noise = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=g) for g in self.generators]
        ).to(scores.device)
        keys = logprob - noise.log()
        if self.sampling.logprobs:
            self.logprobs.append(logprob.gather(-1, keys.argmax(-1, keepdim=True))[:, 0])
        return keys


def keep_likely(logprob: Tensor, *, top_p: float, top_k: int) -> Tensor:
    """The log-probabilities [N, V] renormalised over the top-k and top-p tokens."""
    if top_k > 0:
        least = logprob.topk(min(top_k, logprob.shape[-1])).values[:, -1:]
        logprob = logprob.masked_fill(logprob < least, -torch.inf)
    if top_p < 1:
        ordered, index = logprob.sort(descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
        logprob = torch.empty_like(logprob).scatter_(-1, index, ordered)
    return logprob.log_softmax(-1)


class ForcedTokens(LogitsProcessor):
    """Lets every row go on with one token, whatever its scores, and keeps those."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [N, V] to keys [N, V]."""
        self.scores.append(scores.float())
        keys = torch.zeros_like(scores)
        keys[:, 1] = 1
        return keys


class _Row(NamedTuple):
    """One answer to sample; `place` holds the numbers of its request and of its seed."""

    place: tuple[int, int]
    prompt: list[int]
    seed: int
    max_tokens: int


class HfEngine:
    """See `RolloutEngine`."""

    def __init__(
        self, model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int]
    ) -> None:
        self.policy_version = -1
        self.stop_token_ids = list(stop_token_ids)
        self.max_model_len = config.max_model_len
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.model = AutoModelForCausalLM.from_pretrained(
                model_path,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                **code_arguments(config.remote_code),
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                "model.policy.path",
                f"no model can be loaded ({first_line(error)})",
                value=model_path,
                fix="give a folder with config.json and weights in safetensors, or a hub name",
            ) from error
        self.model.to(device).eval()
        # A checkpoint's own generation settings must not reshape the distribution, and `generate`
        # takes from them what it is not told.
        self.model.generation_config = GenerationConfig()
        self.model.set_attn_implementation(own_attention(self.model))
        self._pads = self._sees_no_padding()

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`."""
        rows = [
            _Row((number, sample), list(request.token_ids), seed, self._room(request))
            for number, request in enumerate(requests)
            for sample, seed in enumerate(request.seeds)
        ]
        done: dict[tuple[int, int], Completion] = {}

        def moved() -> None:
            if on_progress is not None:
                on_progress(len(done), len(rows))

        for batch in self._batches(rows):
            completions = self._generate_batch(batch, sampling, moved)
            for row, completion in zip(batch, completions, strict=True):
                done[row.place] = completion
                if on_finished is not None:
                    on_finished(*row.place, completion)
            moved()
        return [
            [done[number, sample] for sample in range(len(request.seeds))]
            for number, request in enumerate(requests)
        ]

    @torch.inference_mode()
    def stream(self, request: Request, *, sampling: Sampling) -> Generator[int]:
        """See `StreamingEngine.stream`."""
        sampler = SeededSampling(request.seeds[:1], sampling)
        ids = torch.tensor([request.token_ids], device=self.model.device)
        past: dict[str, Any] = {}
        for _ in range(self._room(request)):
            output = self.model(input_ids=ids, use_cache=True, **past)
            token_1 = sampler(ids, output.logits[:, -1]).argmax(-1, keepdim=True)
            past = {name: output[name] for name in CACHES if output.get(name) is not None}
            ids = token_1 if past else torch.cat((ids, token_1), dim=1)
            token = int(token_1)
            yield token
            if token in self.stop_token_ids:
                return

    def _batches(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Rows that are sampled together; of one length where padding would change them."""
        parts: dict[int, list[_Row]] = {}
        for row in rows:
            parts.setdefault(0 if self._pads else len(row.prompt), []).append(row)
        for part in parts.values():
            for start in range(0, len(part), ROWS_PER_BATCH):
                yield part[start : start + ROWS_PER_BATCH]

    @torch.inference_mode()
    def _sees_no_padding(self) -> bool:
        """Whether padding before a prompt changes no score, asked of the model itself.

        Layers that carry a state along may take it for a beginning.
        """
        prompt, padding = [1, 2, 3, 4, 5, 6], [0] * 5
        seen = []
        for ids, mask in ((prompt, [1] * 6), (padding + prompt, [0] * 5 + [1] * 6)):
            forced = ForcedTokens()
            self.model.generate(
                input_ids=torch.tensor([ids], device=self.model.device),
                attention_mask=torch.tensor([mask], device=self.model.device),
                logits_processor=LogitsProcessorList([forced]),
                generation_config=GenerationConfig(
                    do_sample=False, max_new_tokens=3, pad_token_id=0
                ),
            )
            seen.append(torch.cat(forced.scores))
        alone, padded = (scores.log_softmax(-1) for scores in seen)
        most, _ = tolerances(self.model, seen[0].abs().max().item())
        return bool(((alone - padded).abs() <= most).all())

    def _room(self, request: Request) -> int:
        """Tokens of the longest answer; as in vLLM, what does not fit is cut off."""
        if self.max_model_len is None:
            return request.max_tokens
        return min(request.max_tokens, self.max_model_len - len(request.token_ids))

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`."""
        # It is a model of transformers, whatever a checkpoint looks like.
        own = weights.in_model() if isinstance(weights, PolicyWeights) else weights
        self.model.load_state_dict(dict(own))
        self.policy_version = policy_version

    def sleep(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        del self.model

    def _generate_batch(
        self, rows: list[_Row], sampling: Sampling, moved: Callable[[], None]
    ) -> list[Completion]:
        longest = max(len(row.prompt) for row in rows)
        padding = [longest - len(row.prompt) for row in rows]
        ids = [[0] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        sampler = SeededSampling([row.seed for row in rows], sampling, moved)
        output = self.model.generate(
            input_ids=torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            logits_processor=LogitsProcessorList([sampler]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(row.max_tokens for row in rows),
                eos_token_id=self.stop_token_ids,
                pad_token_id=self.stop_token_ids[0],
            ),
        )
        logprobs = torch.stack(sampler.logprobs, 1).tolist() if sampler.logprobs else None
        return [
            self._completion(
                tokens[: row.max_tokens], None if logprobs is None else logprobs[number]
            )
            for number, (row, tokens) in enumerate(
                zip(rows, output[:, longest:].tolist(), strict=True)
            )
        ]

    def _completion(self, tokens: list[int], logprobs: list[float] | None) -> Completion:
        stops = [index for index, token in enumerate(tokens) if token in self.stop_token_ids]
        num_tokens = stops[0] + 1 if stops else len(tokens)
        return Completion(
            token_ids=tuple(tokens[:num_tokens]),
            finish_reason="stop" if stops else "length",
            logprobs=None if logprobs is None else tuple(logprobs[:num_tokens]),
            policy_version=self.policy_version,
        )
