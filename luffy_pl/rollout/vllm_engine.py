"""vLLM in this process: on a CPU for a laptop, colocated with the trainer on a GPU."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luffy_pl.errors import EngineError, first_line
from luffy_pl.process.interrupt import Stopped
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.cpu_reload import UNCHANGED
from luffy_pl.rollout.engine import EngineConfig, Finished, Request, Sampling, stale_prefixes
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.vllm_start import process_group_kept, start_llm

if TYPE_CHECKING:
    from vllm import SamplingParams


class VllmEngine:
    """See `RolloutEngine`."""

    def __init__(
        self, model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int]
    ) -> None:
        self.policy_version = -1
        self.config = config
        self.stop_token_ids = list(stop_token_ids)
        self._num_requests = 0
        self._asleep = False
        # Weights that no training changes, as they arrived last, and the count of their changes.
        self._frozen: dict[str, tuple[Tensor, int]] = {}
        self._joins_trainer = torch.distributed.is_initialized()
        try:
            self._llm = start_llm(model_path, config)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                "data.engine",
                f"vLLM does not start: {reason(error)}",
                fix="lower data.engine.max_model_len or gpu_memory_utilization, "
                "or use data.engine.kind=hf",
            ) from error

    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`."""
        if self._asleep:
            raise EngineError(
                "data.engine.sleep_level",
                "the engine sleeps, and its weights may be gone",
                value=self.config.sleep_level,
                fix="keep the weight_sync callback in the trainer: load_weights wakes the engine",
            )
        engine = self._llm.llm_engine
        order: list[list[str]] = []
        for request in requests:
            order.append([])
            for seed in request.seeds:
                # One request per sample, not n samples per request: each keeps its own seed,
                # and the shared prompt is computed once through the prefix cache.
                name = str(self._num_requests)
                self._num_requests += 1
                params = self._params(sampling, seed, max_tokens=request.max_tokens)
                prompt = {"prompt_token_ids": list(request.token_ids)}
                engine.add_request(name, prompt, params)
                order[-1].append(name)

        places = {name: (p, s) for p, names in enumerate(order) for s, name in enumerate(names)}
        total = len(places)
        done = self._answers(places, on_progress, on_finished)
        _check_complete([name for name in places if name not in done], total)
        return [[done[name] for name in names] for names in order]

    def _answers(
        self,
        places: Mapping[str, tuple[int, int]],
        on_progress: Progress | None,
        on_finished: Finished | None,
    ) -> dict[str, Completion]:
        """What becomes of the requests; a run that is stopped leaves none behind."""
        engine, done = self._llm.llm_engine, dict[str, Completion]()
        try:
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        name = output.request_id
                        done[name] = completion_of(output.outputs[0], self.policy_version)
                        if on_finished is not None:
                            on_finished(*places[name], done[name])
                if on_progress is not None:
                    on_progress(len(done), len(places))
        except Stopped:
            engine.abort_request([name for name in places if name not in done])
            raise
        return done

    def stream(self, request: Request, *, sampling: Sampling) -> Generator[int]:
        """See `StreamingEngine.stream`."""
        from vllm.sampling_params import RequestOutputKind

        engine, name = self._llm.llm_engine, f"stream-{self._num_requests}"
        self._num_requests += 1
        params = self._params(sampling, request.seeds[0], max_tokens=request.max_tokens)
        params.output_kind = RequestOutputKind.DELTA
        engine.add_request(name, {"prompt_token_ids": list(request.token_ids)}, params)
        try:
            while engine.has_unfinished_requests():
                for output in engine.step():
                    yield from output.outputs[0].token_ids
        finally:
            engine.abort_request([name])

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`."""
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        before, self._frozen = self._frozen, {}
        kept: dict[str, tuple[Tensor, int]] = {}
        marked = self._marked(weights, before, kept)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": marked})
        self._frozen = kept
        if self._asleep:
            # The cache comes back last: weights being loaded and a full cache do not both fit.
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        if not self._llm.reset_prefix_cache():
            raise stale_prefixes("vLLM")
        self.policy_version = policy_version

    def _marked(
        self,
        weights: PolicyWeights,
        before: Mapping[str, tuple[Tensor, int]],
        kept: dict[str, tuple[Tensor, int]],
    ) -> Iterator[tuple[str, Tensor]]:
        """The weights, with a mark on those that are what arrived before; fills `kept`."""
        # Gathered weights are new tensors each time, and on a GPU vLLM takes them all.
        is_own = not (self._joins_trainer or torch.cuda.is_available())
        names = weights.frozen_names() if is_own else ()
        for name, weight in weights:
            if name in names:
                kept[name] = (weight, weight._version)
                last, version = before.get(name, (None, -1))
                if last is not None and (last.data_ptr(), version) == (
                    weight.data_ptr(), weight._version
                ):  # fmt: skip
                    setattr(weight, UNCHANGED, True)
            yield name, weight

    def sleep(self) -> None:
        """See `RolloutEngine.sleep`."""
        if self.config.sleep_level and torch.cuda.is_available():
            self._llm.sleep(level=self.config.sleep_level)
            self._asleep = True

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        llm = self._llm
        del self._llm  # whatever becomes of the rest: weights and cache must not be kept
        with process_group_kept() if self._joins_trainer else nullcontext():
            llm.llm_engine.engine_core.shutdown()

    def _params(self, sampling: Sampling, seed: int, *, max_tokens: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            seed=seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=max_tokens,
            stop_token_ids=self.stop_token_ids,
            # Those and no others: vLLM would add what the model's own settings end with.
            ignore_eos=True,
            logprobs=0 if sampling.logprobs else None,
            flat_logprobs=True,  # numbers in a list, and not an object for each token
            skip_clone=True,  # each is made for one request
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def reason(error: Exception) -> str:
    """What an error says in one line; of a validation by pydantic, its first problem."""
    problems = error.errors() if hasattr(error, "errors") else []
    return problems[0]["msg"] if problems else first_line(error)


def _check_complete(missing: Sequence[str], total: int) -> None:
    if missing:
        raise EngineError(
            "data.engine",
            f"{len(missing)} of {total} requests were not answered",
            value=missing[:5],
            fix="run again; with the same seed the same tokens are sampled",
        )


def completion_of(output: Any, policy_version: int) -> Completion:
    """A CompletionOutput of vLLM as our record."""
    token_ids = tuple(output.token_ids)
    logprobs = None
    if output.logprobs is not None:
        found = output.logprobs.logprobs  # of the sampled token alone, at each place
        assert len(found) == len(token_ids)
        # None where the engine has no number for a token, which is then not learned from.
        logprobs = tuple(math.nan if logprob is None else logprob for logprob in found)
    return Completion(
        token_ids=token_ids,
        finish_reason="length" if output.finish_reason == "length" else "stop",
        logprobs=logprobs,
        policy_version=policy_version,
    )
