"""An engine that is replaced once when it breaks or hangs, and whose answers are counted.

Tokens are a function of weights, prompt and seed, so what is asked again is answered as before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from luffy_pl.errors import EngineError, LuffyError, first_line
from luffy_pl.process.faults import fault
from luffy_pl.process.gpu_failure import gpu_failure, is_gpu_failure
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.deadline import Deadline, Late
from luffy_pl.rollout.engine import Finished, Request, RolloutEngine, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights

log = logging.getLogger(__name__)

MIN_LIFE_S = 600.0
"""An engine that breaks sooner than this after it was replaced ends the run."""


class SupervisedEngine:
    """See `RolloutEngine`.

    Args:
        start: makes an engine, now and when it is to be replaced.
        deadline_s: seconds without progress after which it is given up; None: it never is.
        stacks: file for the stacks of an engine that hangs.
    """

    def __init__(
        self, start: Callable[[], RolloutEngine], *, deadline_s: float | None, stacks: Path
    ) -> None:
        self._start, self._stacks, self._deadline_s = start, stacks, deadline_s
        self._engine = start()
        self._loaded = True
        self._replaced_s: float | None = None
        self.num_replaced = 0
        # The weights that were loaded last. None where they cannot be made again: then an engine
        # that breaks cannot be replaced.
        self._loaded_last: PolicyWeights | None = None

    @property
    def policy_version(self) -> int:
        """See `RolloutEngine.policy_version`."""
        return self._engine.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        self._engine.policy_version = version

    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`."""
        if not self._loaded:
            raise EngineError(
                "data.engine",
                "weights were handed over in part, so it would sample from a mixture",
                fix="resume the run from its last checkpoint",
            )
        # A probe shows no progress and must not fail on purpose.
        phase = self.policy_version if on_progress is not None else -1
        changed = _change_asked_for(phase)
        told: set[tuple[int, int]] = set()

        def tell(request: int, sample: int, completion: Completion) -> None:
            # What is asked again is answered again, and was told already.
            if on_finished is not None and (request, sample) not in told:
                told.add((request, sample))
                on_finished(request, sample, changed(completion))

        def attempt() -> list[list[Completion]]:
            with Deadline(self._deadline_s, self._stacks) as deadline:

                def moved(done: int, total: int) -> None:
                    deadline.moved()
                    if fault("rollout_dead", phase):
                        raise RuntimeError("LUFFY_FAULT")
                    if on_progress is not None:
                        on_progress(done, total)

                while fault("rollout_hang", phase):
                    _sleep_for_ever()
                return self._engine.generate(
                    requests, sampling=sampling, on_progress=moved, on_finished=tell
                )

        completions = [[changed(one) for one in own] for own in self._retried(attempt)]
        completions = _miscounted(completions, phase)
        check_count(completions, requests)
        return completions

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`; tried twice where the weights can be made again."""
        self._loaded_last = weights if weights.is_repeatable else None
        if fault("sync_skip", policy_version):
            return
        self._loaded = False
        reason = None
        try:
            self._hand_over(weights, policy_version)
        except LuffyError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever an engine raises)
            reason = self._mendable(error, "weights did not arrive")
        # Outside of the handler, as below.
        if reason is not None:
            self._load_again(reason, policy_version)
        self._loaded = True

    def sleep(self) -> None:
        """See `RolloutEngine.sleep`."""
        self._engine.sleep()

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        self._engine.close()

    def _retried(self, attempt: Callable[[], list[list[Completion]]]) -> list[list[Completion]]:
        try:
            return attempt()
        except LuffyError:
            raise
        except (Exception, Late) as error:
            reason = self._mendable(error, "sampling failed")
            now_s = time.monotonic()
            if self._replaced_s is not None and now_s - self._replaced_s < MIN_LIFE_S:
                what = "sampling failed twice within ten minutes"
                raise self._given_up(error, what) from error
        # Outside of the handler: the error's frames hold the old engine's weights and cache, beside
        # which a new engine does not fit.
        self._replace(reason)
        try:
            return attempt()
        except LuffyError:
            raise
        except (Exception, Late) as error:
            raise self._given_up(error, "sampling failed twice") from error

    def _mendable(self, error: BaseException, what: str) -> str:
        """Why it broke, in a line; raises where neither a new engine nor another try can help."""
        if self._loaded_last is None or is_gpu_failure(error):
            raise self._given_up(error, what) from error
        return first_line(error)

    def _replace(self, reason: str) -> None:
        """A new engine with the weights of the old one."""
        assert self._loaded_last is not None  # it is mendable
        log.warning("the engine broke (%s); a new one is started", reason)
        version = self.policy_version
        with contextlib.suppress(Exception):  # it is broken
            self._engine.close()
        del self._engine
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._engine = self._start()
        self._engine.load_weights(self._loaded_last, policy_version=version)
        self._replaced_s = time.monotonic()
        self.num_replaced += 1

    def _load_again(self, reason: str, policy_version: int) -> None:
        assert self._loaded_last is not None  # it is mendable
        log.warning("weights did not arrive (%s); once more", reason)
        try:
            self._hand_over(self._loaded_last, policy_version)
        except Exception as again:
            raise self._given_up(again, "weights did not arrive twice") from again

    def _hand_over(self, weights: PolicyWeights, policy_version: int) -> None:
        if fault("sync_fail", policy_version):
            weights = Breaking(weights.state_dict, weights.prefix)
        self._engine.load_weights(weights, policy_version=policy_version)

    @staticmethod
    def _given_up(error: BaseException, what: str) -> EngineError:
        if is_gpu_failure(error):
            return gpu_failure(error, what)
        return EngineError(
            "data.engine",
            f"{what} ({first_line(error)})",
            fix="--resume continues from the last checkpoint; if it happens again, lower "
            "data.engine.gpu_memory_utilization or use data.engine.kind=hf",
        )


def check_count(completions: Sequence[Sequence[Completion]], requests: Sequence[Request]) -> None:
    """One answer for each seed: with any other number, rewards would go to the wrong rows."""
    found, asked = [len(own) for own in completions], [len(one.seeds) for one in requests]
    if found != asked:
        wrong = [
            f"prompt {number}: {has} of {wants}"
            for number, (has, wants) in enumerate(
                itertools.zip_longest(found, asked, fillvalue="none")
            )
            if has != wants
        ]
        raise EngineError(
            "data.engine",
            f"answers do not match what was asked for ({'; '.join(wrong[:5])})",
            fix="run again; with the same seed the same tokens are sampled",
        )


def _sleep_for_ever() -> None:
    while True:  # in small pieces, between which the deadline can end it
        time.sleep(0.05)


class Breaking(PolicyWeights):
    """Weights of which only the first arrives: what `sync_fail` asks for."""

    def in_model(self) -> Iterator[tuple[str, Tensor]]:
        """The first weight."""
        yield next(super().in_model())
        raise RuntimeError("LUFFY_FAULT")


def _miscounted(completions: list[list[Completion]], phase: int) -> list[list[Completion]]:
    if fault("rollout_short", phase):
        return [completions[0][:-1], *completions[1:]]
    if fault("rollout_twice", phase):
        return [[*completions[0], completions[0][0]], *completions[1:]]
    return completions


def _change_asked_for(phase: int) -> Callable[[Completion], Completion]:
    """What LUFFY_FAULT makes of this phase's answers."""
    if fault("rollout_empty", phase):
        return lambda one: _with(one, token_ids=(), logprob=0.0)
    if fault("nan_logprob", phase):
        return lambda one: _with(one, token_ids=one.token_ids, logprob=math.nan)
    return lambda one: one


def _with(one: Completion, *, token_ids: tuple[int, ...], logprob: float) -> Completion:
    logprobs = None if one.logprobs is None else (logprob,) * len(token_ids)
    return dataclasses.replace(one, token_ids=token_ids, logprobs=logprobs)
