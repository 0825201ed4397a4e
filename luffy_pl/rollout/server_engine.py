"""Servers elsewhere as an engine: requests over HTTP, weights by a file or over NCCL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed

from luffy_pl.errors import ConfigError
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.engine import EngineConfig, Finished, Request, Sampling, stale_prefixes
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import Asked, ServerPool
from luffy_pl.rollout.weight_transfer import Transfer, build_transfer


class VllmServerEngine:
    """See `RolloutEngine`. Every rank asks all servers; the first alone changes their weights."""

    def __init__(self, config: EngineConfig, *, stop_token_ids: Sequence[int]) -> None:
        if not config.server.urls:
            raise ConfigError(
                "data.engine.server.urls",
                "is empty, and data.engine.kind=vllm_server asks servers",
                fix="start some with luffy-pl serve, and name them: [http://127.0.0.1:8000]",
            )
        self.policy_version = -1
        self.stop_token_ids = list(stop_token_ids)
        self._pool = ServerPool(config.server.urls, timeout_s=config.server.timeout_s)
        self._pool.everywhere("health", method="GET")
        self._transfer: Transfer = build_transfer(config, self._pool, rank=_rank())

    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`."""
        asked = [
            [
                Asked((number, sample), self._body(request, sampling, seed))
                for sample, seed in enumerate(request.seeds)
            ]
            for number, request in enumerate(requests)
        ]
        done: dict[tuple[int, int], Completion] = {}
        total = sum(map(len, asked))

        def take(place: tuple[int, int], choice: dict[str, Any]) -> None:
            done[place] = completion_of(choice, self.policy_version)
            if on_finished is not None:
                on_finished(*place, done[place])
            if on_progress is not None:
                on_progress(len(done), total)

        version = None if self.policy_version < 0 else str(self.policy_version)
        self._pool.answers(asked, version=version, on_answer=take)
        return [[done[one.place] for one in own] for own in asked]

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`. Every rank calls it, for gathering takes them all."""
        is_first = _rank() == 0
        if is_first:
            self._pool.everywhere("pause?mode=wait")
        self._transfer.send(weights)
        if is_first:
            answers = self._pool.everywhere("reset_prefix_cache")
            for url, answer in zip(self._pool.urls, answers, strict=True):
                if not answer["success"]:
                    raise stale_prefixes(url)
            new = {"new_version": str(policy_version)}
            self._pool.everywhere("update_weight_version", [new] * len(self._pool.urls))
            self._pool.everywhere("resume")
        self.policy_version = policy_version

    def sleep(self) -> None:
        """Servers have devices of their own."""

    def close(self) -> None:
        """Servers belong to who started them."""

    def _body(self, request: Request, sampling: Sampling, seed: int) -> dict[str, Any]:
        return {
            "token_ids": list(request.token_ids),
            "sampling_params": {
                "seed": seed,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "max_tokens": request.max_tokens,
                "stop_token_ids": self.stop_token_ids,
                "ignore_eos": True,  # as in vllm_engine.py
                "logprobs": 0 if sampling.logprobs else None,
                "detokenize": False,
            },
        }


def completion_of(choice: dict[str, Any], policy_version: int) -> Completion:
    """A choice of /inference/v1/generate as our record."""
    logprobs = choice.get("logprobs")
    return Completion(
        token_ids=tuple(choice["token_ids"]),
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        logprobs=tuple(token["logprob"] for token in logprobs["content"]) if logprobs else None,
        policy_version=policy_version,
    )


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
