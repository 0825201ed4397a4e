"""What a rollout engine is: token ids in, token ids out, and weights that can be replaced.

An engine never sees a reward, an advantage or a chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from luffy_pl import registry
from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError, EngineError
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.policy_weights import PolicyWeights

MAX_TEMPERATURE = 2.0
"""The most vLLM accepts."""
CPU_BLOCK_TOKENS = 32
"""Tokens of a block of the key-value cache: the fewest that vLLM's kernels on a CPU take."""
CPU_SEQUENCES = 256
"""Sequences that vLLM computes at a time on a CPU."""

Dtype = Literal["float32", "bfloat16", "float16"]
Finished = Callable[[int, int, Completion], None]
"""Called with the number of a request, the number of a sample, and its completion."""


@dataclass(frozen=True)
class Request:
    """A prompt that is to be answered, once for each seed."""

    token_ids: tuple[int, ...]
    """The prompt."""
    seeds: tuple[int, ...]
    """A seed for each answer."""
    max_tokens: int
    """Longest answer, in tokens."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, the same for all requests of a call.

    Training keeps the whole distribution (no top-p, no top-k): the trainer's log-probabilities
    know nothing of a truncated one.
    """

    temperature: float = 1.0
    """Softmax temperature; 0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens with at least this probability; 1 keeps all."""
    top_k: int = -1
    """Number of most likely tokens kept; -1 keeps all."""
    logprobs: bool = False
    """Also return the log-probability of each sampled token. Costs throughput."""


@dataclass(frozen=True)
class ServerConfig:
    """Where servers are and how weights reach them (vllm_server)."""

    urls: tuple[str, ...] = ()
    """Their addresses, such as http://127.0.0.1:8000; every rank asks all of them."""
    timeout_s: float = bounded(1800.0, above=0, at_most=1e9)
    """Seconds for one answer or control request, all retries included; the longest answer must
    fit."""
    transfer: Literal["file", "nccl"] = "file"
    """file: through a folder that both sides see; nccl: from GPU to GPU."""
    folder: str = "/dev/shm"
    """Where the file lies: shared memory on one machine, a shared file system between several."""
    nccl_address: str = "127.0.0.1"
    """Address of the trainer's first rank, as the servers see it."""
    nccl_port: int = bounded(29600, at_least=1, at_most=65535)
    """A free port there."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.engine.server")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ConfigError(
                    "data.engine.server.urls",
                    "must be addresses",
                    value=url,
                    fix="write http://host:port",
                )


@dataclass(frozen=True)
class EngineConfig:
    """Which engine samples, and its limits."""

    kind: str = "auto"
    """auto takes vLLM where it is installed; vllm is in this process; vllm_server asks running
    servers; hf is transformers, exact and slow; others come from packages and plugins."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """The servers of vllm_server."""
    dtype: Dtype = "float32"
    """Precision of the engine's weights."""
    max_model_len: int | None = bounded(None, at_least=1, at_most=1e9)
    """Longest prompt plus response, in tokens; null takes the model's own limit."""
    gpu_memory_utilization: float = bounded(0.5, above=0, at_most=1)
    """Share of a GPU's memory the engine may take: 0.5 beside a trainer, 0.9 alone (vllm)."""
    tensor_parallel_size: int = bounded(1, at_least=1, at_most=1e6)
    """Neighbouring ranks that hold one engine's weights and cache together, for a model that does
    not fit beside the trainer otherwise; a divisor of the number of ranks (vllm)."""
    cpu_kv_cache_gib: int = bounded(1, at_least=1, at_most=1e6)
    """Most memory of the key-value cache on a CPU, in GiB; less where 256 sequences of
    max_model_len need less (vllm)."""
    sleep_level: Literal[0, 1, 2] = 0
    """While training on a GPU: 0 keeps all, 1 moves weights to the host, 2 drops them, since the
    next sync brings others; 1 and 2 drop the cache (vllm)."""
    enforce_eager: bool = True
    """Run without captured graphs: starts faster, samples slower on a GPU (vllm)."""
    deadline_s: float | None = bounded(3600.0, above=0, at_most=1e9)
    """Seconds without any progress after which a hanging engine is replaced, the second time the
    run ended, and seconds of silence after which another rank counts as gone; null waits for
    ever."""
    remote_code: str | None = None
    """Linked from `model.policy`."""

    def __post_init__(self) -> None:
        registry.check("engine", self.kind, where="data.engine.kind")
        check_bounds(self, "data.engine")
        if self.tensor_parallel_size > 1 and self.kind not in ("auto", "vllm"):
            raise ConfigError(
                "data.engine.tensor_parallel_size",
                f"is for vLLM in this process, and data.engine.kind={self.kind}",
                value=self.tensor_parallel_size,
                fix="use 1; a server has its own: luffy-pl serve MODEL --tensor-parallel-size 2",
            )


def cpu_cache_tokens(max_model_len: int | None) -> int | None:
    """Most tokens that vLLM's cache on a CPU has use for; None: of a model's whole window."""
    if max_model_len is None:
        return None
    blocks = -(-max_model_len // CPU_BLOCK_TOKENS)
    return (CPU_SEQUENCES * blocks + 1) * CPU_BLOCK_TOKENS  # one block is never used


class RolloutEngine(Protocol):
    """Samples from a policy whose weights are replaced after each phase."""

    policy_version: int
    """Phases the loaded weights have been trained for; -1 before the first sync."""

    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """Sample one completion for each seed of each request, and return them in that order.

        Requests are begun in their order. On a CPU the tokens are a function of weights, prompt and
        seed alone; on a GPU vLLM's kernels also depend a little on what else is in the batch.

        Args:
            on_progress: called with the number of completions that are done, and of all.
            on_finished: gets each completion once, as soon as it is there.
        """
        ...

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """Replace all weights; forget cached prefixes. Every rank calls it together."""
        ...

    def sleep(self) -> None:
        """Give device memory back until the next `load_weights`."""
        ...

    def close(self) -> None:
        """Give everything back; nothing may be asked of it any more."""
        ...


class StreamingEngine(RolloutEngine, Protocol):
    """An engine of this process alone, which one person can watch."""

    def stream(self, request: Request, *, sampling: Sampling) -> Generator[int]:
        """Yield the tokens of one answer as they are sampled, the one that ends it included.

        They are the tokens that `generate` returns for the first seed of the request. Closing the
        iterator stops the answer.
        """
        ...


def stale_prefixes(who: str) -> EngineError:
    """Cached prompts were computed with the weights before, and answers would begin from them."""
    return EngineError(
        "data.engine",
        f"{who} keeps cached prompts of the weights before, which a request still holds",
        fix="--resume continues from the last checkpoint",
    )
