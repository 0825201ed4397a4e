"""transformers' generate as an engine: exact, slow, no extra installation.

For tiny models, debugging, and to check another engine against.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from luffy_pl.attention.own import own_attention
from luffy_pl.errors import ModelError, first_line
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.self_check import tolerances
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.engine import EngineConfig, Finished, Request, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights

BATCH_ROWS, BATCH_TOKENS = 64, 2**15
"""Rows that are always sampled together; more of them as long as they hold no more tokens."""
LEAST_LIVE = 0.75
"""Share of the rows of a batch below which those that have ended are taken out of it."""
CACHES = ("past_key_values", "cache_params")
"""What models call the state that they go on from."""


class SeededSampling:
    """Draws the next token of each row from the row's own seed (Gumbel-max).

    argmax(logit / T + g) with g ~ Gumbel(0, 1) is a draw from softmax(logit / T), and noise
    drawn per row makes a row's tokens independent of its neighbours in the batch.
    """

    def __init__(
        self, seeds: Sequence[int], sampling: Sampling, moved: Callable[[], None] = lambda: None
    ) -> None:
        self.moved = moved
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.sampling = sampling
        self.noise_NV = torch.empty(0, 0)

    def __call__(self, logits_NV: Tensor) -> tuple[Tensor, Tensor | None]:
        """The next token of each row, and its log-probability where that is asked for, [N]."""
        self.moved()  # a batch may take minutes
        logits_NV = logits_NV.float()
        if self.sampling.temperature == 0:
            return logits_NV.argmax(-1), None
        logprob_NV = keep_likely(
            (logits_NV / self.sampling.temperature).log_softmax(-1),
            top_p=self.sampling.top_p,
            top_k=self.sampling.top_k,
        )
        token_N = (logprob_NV - self.drawn(logits_NV).log_()).argmax(-1)
        if not self.sampling.logprobs:
            return token_N, None
        return token_N, logprob_NV.gather(-1, token_N[:, None])[:, 0]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the rows at these places."""
        self.generators = [self.generators[place] for place in places]

    def drawn(self, like_NV: Tensor) -> Tensor:
        """Exponential noise [N, V] of the rows' generators, on the device of the logits."""
        if self.noise_NV.shape != like_NV.shape:
            self.noise_NV = torch.empty(like_NV.shape)
        for noise_V, generator in zip(self.noise_NV, self.generators, strict=True):
            noise_V.exponential_(generator=generator)
        return self.noise_NV.to(like_NV.device)


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
    is_whole = top_k <= 0 and top_p >= 1
    return logprob if is_whole else logprob.log_softmax(-1)


class _Row(NamedTuple):
    """One answer to sample; `place` holds the numbers of its request and of its seed."""

    place: tuple[int, int]
    prompt: tuple[int, ...]
    seed: int
    max_tokens: int

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and longest answer."""
        return len(self.prompt) + self.max_tokens


@dataclass
class _Answer:
    """A row as far as it is sampled; log-probabilities where they are asked for."""

    row: _Row
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    is_stopped: bool = False
    is_ended: bool = False

    def add(self, token: int, logprob: float | None, stop_token_ids: Sequence[int]) -> bool:
        """Add a token; whether the answer has ended."""
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        self.is_stopped = token in stop_token_ids
        self.is_ended = self.is_stopped or len(self.tokens) == self.row.max_tokens
        return self.is_ended

    def completion(self, sampling: Sampling, policy_version: int) -> Completion:
        """The answer; one of temperature 0 has no log-probabilities."""
        has_logprobs = sampling.logprobs and sampling.temperature > 0
        return Completion(
            token_ids=tuple(self.tokens),
            finish_reason="stop" if self.is_stopped else "length",
            logprobs=tuple(self.logprobs) if has_logprobs else None,
            policy_version=policy_version,
        )


class _Batch:
    """What a model goes on from, of rows that are sampled together, padded on the left."""

    mask_NL: Tensor
    ids_NL: Tensor
    past: dict[str, Any]
    num_read: int

    def __init__(self, model: PreTrainedModel, rows: Sequence[_Row]) -> None:
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self.options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.takes_positions = "position_ids" in takes
        self.room = max(row.max_tokens for row in rows)
        # Rows of one prompt read it once.
        number = {prompt: at for at, prompt in enumerate(dict.fromkeys(r.prompt for r in rows))}
        places = [number[row.prompt] for row in rows]
        logits_PV = self._read_prompts(list(number))
        if self.keep(places):
            self.logits_NV = logits_PV[places]
        else:
            self.logits_NV = self._read_prompts([row.prompt for row in rows])

    def read(self, ids_NL: Tensor) -> Tensor:
        """Take the next tokens of each row; the logits of what follows them, [N, V]."""
        start, self.num_read = self.num_read, self.num_read + ids_NL.shape[1]
        self.ids_NL = ids_NL if self.past else torch.cat((self.ids_NL, ids_NL), dim=1)
        padded: dict[str, Any] = {}
        if self.is_padded:
            mask_NL = self.mask_NL[:, : self.num_read]
            padded = {"attention_mask": mask_NL}
            if self.takes_positions:
                first = start if self.past else 0
                padded["position_ids"] = (mask_NL.cumsum(1) - 1).clamp(min=0)[:, first:]
        output = self.model(
            input_ids=self.ids_NL, use_cache=True, **padded, **self.past, **self.options
        )
        self.past = {name: output[name] for name in CACHES if output.get(name) is not None}
        return output.logits[:, -1]

    def keep(self, places: Sequence[int]) -> bool:
        """Go on with the rows at these places, any of them several times; False: not possible."""
        if list(places) == list(range(len(self.mask_NL))):
            return True
        if not all(has_rows(cache) for cache in self.past.values()):
            return False
        index_n = torch.tensor(places, device=self.mask_NL.device)
        for cache in self.past.values():
            cache.batch_select_indices(index_n)
        self.mask_NL, self.ids_NL = self.mask_NL[index_n], self.ids_NL[index_n]
        return True

    def _read_prompts(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """Begin with these; the logits of what follows, [P, V]."""
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        self.is_padded = any(padding)
        mask_PL = torch.ones(len(prompts), longest + self.room, dtype=torch.long)
        ids_PL = torch.zeros(len(prompts), longest, dtype=torch.long)
        for at, (prompt, pad) in enumerate(zip(prompts, padding, strict=True)):
            mask_PL[at, :pad] = 0
            ids_PL[at, pad:] = torch.tensor(prompt)
        device = self.model.device
        self.mask_NL, self.num_read = mask_PL.to(device), 0
        self.past = {}
        self.ids_NL = ids_PL[:, :0].to(device)
        return self.read(ids_PL.to(device))


def has_rows(cache: Any) -> bool:
    """Whether rows can be taken out of a cache: it holds keys and values, and no other state."""
    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return isinstance(cache, DynamicCache) and all(type(one) in kinds for one in cache.layers)


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
            _Row((number, sample), request.token_ids, seed, self._room(request))
            for number, request in enumerate(requests)
            for sample, seed in enumerate(request.seeds)
        ]
        full = [row for row in rows if row.max_tokens <= 0]
        found = {row.place: _Answer(row).completion(sampling, self.policy_version) for row in full}

        def moved() -> None:
            if on_progress is not None:
                on_progress(len(found), len(rows))

        for batch in self._batches([row for row in rows if row.max_tokens > 0]):
            for row, completion in self._sampled(batch, sampling, moved):
                found[row.place] = completion
                if on_finished is not None:
                    on_finished(*row.place, completion)
            moved()
        return [
            [found[number, sample] for sample in range(len(request.seeds))]
            for number, request in enumerate(requests)
        ]

    @torch.inference_mode()
    def stream(self, request: Request, *, sampling: Sampling) -> Generator[int]:
        """See `StreamingEngine.stream`."""
        row = _Row((0, 0), request.token_ids, request.seeds[0], self._room(request))
        sampler, batch = SeededSampling([row.seed], sampling), _Batch(self.model, [row])
        logits_1V = batch.logits_NV
        for _ in range(row.max_tokens):
            token_1, _ = sampler(logits_1V)
            token = int(token_1)
            yield token
            if token in self.stop_token_ids:
                return
            logits_1V = batch.read(token_1[:, None])

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows that are sampled together; of one length where padding would change them."""
        parts: dict[int, list[_Row]] = {}
        for row in rows:
            parts.setdefault(0 if self._pads else len(row.prompt), []).append(row)
        for part in parts.values():
            yield from batches(part)

    @torch.inference_mode()
    def _sees_no_padding(self) -> bool:
        """Whether padding before a prompt changes no score, asked of the model itself.

        Layers that carry a state along may take it for a beginning.
        """
        row = _Row((0, 0), (1, 2, 3, 4, 5, 6), 0, 3)
        longer = row._replace(prompt=(2, 3, 4, 5, 6, *row.prompt))
        seen = []
        for rows in ([row], [row, longer]):
            batch = _Batch(self.model, rows)
            scores = [batch.logits_NV[0]]
            ids_N1 = torch.ones(len(rows), 1, dtype=torch.long, device=self.model.device)
            try:
                scores += [batch.read(ids_N1)[0] for _ in range(row.max_tokens - 1)]
            except (RuntimeError, ValueError, TypeError, IndexError):
                return False  # it takes a mask for its prompts alone
            seen.append(torch.stack(scores).float())
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

    def _sampled(
        self, rows: Sequence[_Row], sampling: Sampling, moved: Callable[[], None]
    ) -> Iterator[tuple[_Row, Completion]]:
        """Answers of one batch, in the order in which they end."""
        sampler = SeededSampling([row.seed for row in rows], sampling, moved)
        batch, inside = _Batch(self.model, rows), [_Answer(row) for row in rows]
        logits_NV = batch.logits_NV
        while True:
            token_N, logprob_N = sampler(logits_NV)
            tokens = token_N.tolist()
            logprobs = [None] * len(tokens) if logprob_N is None else logprob_N.tolist()
            for answer, token, logprob in zip(inside, tokens, logprobs, strict=True):
                if not answer.is_ended and answer.add(token, logprob, self.stop_token_ids):
                    yield answer.row, answer.completion(sampling, self.policy_version)
            live = [place for place, answer in enumerate(inside) if not answer.is_ended]
            if not live:
                return
            # One whose window is full has no position for another token, whatever ended it.
            num_sampled = len(inside[live[0]].tokens)
            is_full = any(answer.row.max_tokens <= num_sampled for answer in inside)
            if (is_full or len(live) < LEAST_LIVE * len(inside)) and batch.keep(live):
                sampler.keep(live)
                token_N, inside = token_N[live], [inside[place] for place in live]
            logits_NV = batch.read(token_N[:, None])


def batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """The rows in their order, cut into what is sampled together."""
    batch: list[_Row] = []
    longest = 0
    for row in rows:
        longest = max(longest, row.most_tokens)
        if len(batch) >= BATCH_ROWS and (len(batch) + 1) * longest > BATCH_TOKENS:
            yield batch
            batch, longest = [], row.most_tokens
        batch.append(row)
    if batch:
        yield batch
