"""vLLM in this process: on a CPU for a laptop, colocated with the trainer on a GPU."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from luffy_pl.errors import EngineError, first_line
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.process.interrupt import Stopped
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.engine import EngineConfig, Finished, Request, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.vllm_defects import pack_experts_again, share_classes

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams


def start_llm(model_path: str, config: EngineConfig) -> LLM:
    """An engine core in this process, loopback only, quiet, without a tokenizer."""
    environment = {
        # In-process: weights are handed over as tensors, and no child can be orphaned.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": str(config.cpu_kv_cache_gib),
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    from vllm import LLM

    # A prompt that is split between two steps draws a token and takes the draw back, which the
    # generator of a seeded request cannot do on a CPU: vLLM dies.
    on_device: dict[str, Any] = {"enable_chunked_prefill": False}
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if has_gpu := torch.cuda.is_available():
        on_device = {
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "enable_sleep_mode": config.sleep_level > 0,
        }
        local_rank = torch.cuda.current_device()
    is_cut = config.tensor_parallel_size > 1
    if torch.distributed.is_initialized() and (has_gpu or is_cut):
        # Every trainer rank already is a process: an engine joins it instead of forking. vLLM
        # reads its place from variables that Lightning's own launcher and SLURM do not set.
        os.environ["RANK"] = str(torch.distributed.get_rank())
        os.environ["LOCAL_RANK"] = str(local_rank)
        on_device["distributed_executor_backend"] = "external_launcher"
    llm = LLM(
        model_path,
        skip_tokenizer_init=True,
        dtype=config.dtype,
        max_model_len=config.max_model_len,
        enforce_eager=config.enforce_eager,
        enable_prefix_caching=True,
        # Log-probabilities after temperature: the raw ones differ from the sampled distribution.
        logprobs_mode="processed_logprobs",
        use_tqdm_on_load=False,
        load_format="safetensors",
        tensor_parallel_size=config.tensor_parallel_size,
        **code_arguments(config.remote_code),
        **on_device,
    )
    share_classes(llm)
    if not has_gpu:
        llm.apply_model(pack_experts_again)
    return llm


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
        try:
            self._llm = start_llm(model_path, config)
        except Exception as error:
            raise EngineError(
                "data.engine",
                f"vLLM does not start: {first_line(error)}",
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

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`."""
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        if self._asleep:
            # The cache comes back last: weights being loaded and a full cache do not both fit.
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        self._llm.reset_prefix_cache()
        self.policy_version = policy_version

    def sleep(self) -> None:
        """See `RolloutEngine.sleep`."""
        if self.config.sleep_level and torch.cuda.is_available():
            self._llm.sleep(level=self.config.sleep_level)
            self._asleep = True

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

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
            logprobs=0 if sampling.logprobs else None,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


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
        by_position = zip(token_ids, output.logprobs, strict=True)
        # None where the engine has no number for a token, which is then not learned from.
        found = (table[token].logprob for token, table in by_position)
        logprobs = tuple(math.nan if logprob is None else logprob for logprob in found)
    return Completion(
        token_ids=token_ids,
        finish_reason="length" if output.finish_reason == "length" else "stop",
        logprobs=logprobs,
        policy_version=policy_version,
    )
