"""The DataModule: prompts in, one Experience per rollout phase out.

It owns the interleaving of rollouts and expert traces, for training, and the graded answers of
every benchmark, for evaluation. Both are sized iterables: without a length Lightning fetches one
batch ahead, and rollouts would come from the policy before the last update.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import lightning as L
import torch

from luffy_pl.bundled import resolve
from luffy_pl.data.chat import Tokenizer
from luffy_pl.data.fingerprint import check_same, fingerprint
from luffy_pl.data.prompts import PromptSet, PromptSource, load_prompts
from luffy_pl.data.seeds import seed_generators
from luffy_pl.data.tokenizer import load_tokenizer, stop_token_ids
from luffy_pl.errors import ConfigError, EngineError
from luffy_pl.experience.benchmarks import Benchmark, check_names
from luffy_pl.experience.checks import check_prompts, check_ranks, without_bad_golds
from luffy_pl.experience.collate import penalised
from luffy_pl.experience.collect import collect_groups, compared
from luffy_pl.experience.one_ahead import OneAhead
from luffy_pl.experience.phases import PhasePlanner
from luffy_pl.experience.policy_view import PolicyView
from luffy_pl.experience.sampling import Collector, Progress, Stopwatch, answered
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.experience.share import Share
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.advantage import AdvantageConfig
from luffy_pl.process.interrupt import together
from luffy_pl.records import Experience, Group, Prompt
from luffy_pl.reward.reward import RewardConfig, Verifier, build_reward_function, build_verifier
from luffy_pl.rollout.engine import EngineConfig, RolloutEngine
from luffy_pl.rollout.start import start_supervised

log = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True)
class GradedChunk:
    """Some problems of one benchmark, answered and graded, with their numbers in the set."""

    benchmark: Benchmark
    num_problems: int
    index: tuple[int, ...]
    groups: tuple[Group, ...]


class LuffyDataModule(L.LightningDataModule):
    """Prompts, expert traces, engine and verifier.

    Args:
        model_path: linked from `model.policy.path`; tokenizer and engine load from it.
        train: training prompts and traces; null if the run only evaluates.
        benchmarks: what evaluation measures. A tuple: entries of a list would inherit what an
            earlier configuration file says of the entry in their place.
        rollout: what one phase collects.
        advantage: how a reward becomes an advantage.
        engine: which engine samples.
        reward: how an answer is graded and paid; a benchmark may have its own.
        answers_per_chunk: about how many answers of a benchmark a rank samples, grades and keeps
            together; a killed evaluation loses no more. Results do not depend on it.
        seed: linked from `seed_everything`; keys every draw of the run.
        steps_per_phase: linked from `model.optimizer`; a phase is cut into this many minibatches.
        sampler_logprobs: linked: whether the objective reads the engine's log-probabilities.
        recorded_behaviour: linked: whether it reads those that an expert recorded.
    """

    def __init__(
        self,
        model_path: str,
        train: PromptSource | None = None,
        benchmarks: tuple[Benchmark, ...] = (),
        rollout: RolloutConfig = RolloutConfig(),  # noqa: B008  frozen
        advantage: AdvantageConfig = AdvantageConfig(),  # noqa: B008  frozen
        engine: EngineConfig = EngineConfig(),  # noqa: B008  frozen
        reward: RewardConfig = RewardConfig(),  # noqa: B008  frozen
        answers_per_chunk: int = 512,
        seed: int = 0,
        steps_per_phase: int = 1,
        sampler_logprobs: bool = False,
        recorded_behaviour: bool = False,
    ) -> None:
        super().__init__()
        check_names(benchmarks)
        if answers_per_chunk < 1:
            raise ConfigError(
                "data.answers_per_chunk",
                "must be at least 1",
                value=answers_per_chunk,
                fix="512 keep an engine busy",
            )
        self.model_path = resolve(model_path)
        self.train, self.benchmarks = train, benchmarks
        self.rollout, self.advantage = rollout, advantage
        self.engine_config, self.reward_config = engine, reward
        self.reward_of = build_reward_function(
            reward, max_response_tokens=rollout.max_response_tokens
        )
        self.answers_per_chunk = answers_per_chunk
        self.seed, self.steps_per_phase = seed, steps_per_phase
        self.sampler_logprobs = sampler_logprobs or rollout.replay is not None
        self.recorded_behaviour = recorded_behaviour
        self.policy_view: PolicyView | None = None
        self.planner: PhasePlanner | None = None
        self.report_progress: Progress = lambda stage, done, total: None
        self.prompts: PromptSet | None = None
        self.problems: list[tuple[Prompt, ...]] = []
        # Graded answers that an earlier start of this evaluation left, by benchmark and problem.
        self.known: Mapping[str, Mapping[str, Group]] = {}
        self._ahead = OneAhead(self.collect, rollout.num_phases)
        self._verifiers: dict[str, Verifier] = {}
        self._collector: Collector | None = None

    # -- Lightning hooks ---------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read everything, then start the engine: bad input costs seconds, not a model load."""
        if self._collector is not None:
            return
        self.read(stage)
        if self.prompts is not None:
            self.planner = PhasePlanner(
                self.prompts,
                self.rollout,
                seed=self.seed,
                rank=self._rank,
                num_ranks=self._num_ranks,
            )
        self._report("starting the rollout engine")
        engine = start_supervised(
            self.model_path,
            self.engine_config,
            stop_token_ids=stop_token_ids(self.tokenizer),
            run_dir=self.trainer.default_root_dir if self.trainer else ".",
        )
        self._collector = Collector(
            engine=engine,
            verifier=self.verifier(self.reward_config),
            decode=lambda ids: self.tokenizer.decode(ids, skip_special_tokens=False),
            reward_of=self.reward_of,
            seed=self.seed,
            on_progress=self._on_progress,
        )

    def read(self, stage: str) -> None:
        """Tokenizer, prompts, traces and problems: all that `setup` needs but an engine."""
        self.tokenizer = tokenizer = load_tokenizer(
            self.model_path, remote_code=self.engine_config.remote_code
        )
        if stage == "fit":
            check_ranks(
                self.rollout, num_ranks=self._num_ranks, steps_per_phase=self.steps_per_phase
            )
            self.prompts = self._load_train(tokenizer, self.verifier(self.reward_config))
        self.problems = [
            load_prompts(resolved(benchmark.source), tokenizer).prompts
            for benchmark in self.benchmarks
        ]

    def teardown(self, stage: str) -> None:
        """End the verifiers' workers; the engine stays for a following validate."""
        self._ahead.cancel()  # a trainer that was told to stop early leaves a phase over
        for verifier in self._verifiers.values():
            verifier.close()

    def train_dataloader(self) -> SizedStream:
        """One Experience per phase."""
        if self.rollout.overlap is None:
            return SizedStream(self.rollout.num_phases, self.collect)
        return SizedStream(
            self.rollout.num_phases,
            # Ranks agree here and not where it is sampled: that is another thread.
            lambda phase: self._stopped_together(functools.partial(self._ahead.take, phase)),
        )

    def wait_for_rollouts(self) -> None:
        """Return when the engine is free; while phases overlap it samples the next one."""
        self._ahead.wait()

    def on_exception(self, exception: BaseException) -> None:
        """Stop sampling a phase that nobody will train."""
        self._ahead.cancel()

    def val_dataloader(self) -> list[SizedStream]:
        """One stream of graded chunks per benchmark."""
        return [
            SizedStream(share.num_chunks, functools.partial(self.answer, share))
            for share in self.shares()
        ]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Only an Experience holds tensors."""
        return batch.to(device) if isinstance(batch, Experience) else batch

    # -- one phase, one chunk ----------------------------------------------------------------

    @property
    def engine(self) -> RolloutEngine:
        """The running engine."""
        return self.collector.engine

    @property
    def collector(self) -> Collector:
        """Engine, verifier and traces; there after `setup`."""
        if self._collector is None:
            raise RuntimeError("setup() has not run")
        return self._collector

    def verifier(self, reward: RewardConfig) -> Verifier:
        """The one verifier of these settings; its workers start when they are needed."""
        settings = repr(reward)
        if settings not in self._verifiers:
            self._verifiers[settings] = build_verifier(reward)
        return self._verifiers[settings]

    def probe_prompt(self) -> Prompt:
        """Any prompt of the run, always the same one."""
        return next(
            prompt
            for prompts in ([self.prompts.prompts] if self.prompts else []) + self.problems
            for prompt in prompts
        )

    def collect(self, phase: int) -> Experience:
        """This rank's share of phase `phase`, from the weights that phase is to train.

        Where phases overlap, from those before at most `max_staleness` phases.
        """
        staleness = phase - self.engine.policy_version
        if not 0 <= staleness <= self.rollout.max_staleness:
            raise EngineError(
                "data.engine",
                f"rollouts of phase {phase} would come from other weights",
                value=f"policy_version={self.engine.policy_version}",
                fix="keep the weight_sync callback in the trainer",
            )
        stopwatch = Stopwatch()
        seed_generators(self.seed, "collect", phase, self._rank)
        collect = functools.partial(
            collect_groups,
            self.planner.plan(phase, view=self.policy_view),
            traces=self.prompts.traces,
            rollout=self.rollout,
            sampler_logprobs=self.sampler_logprobs,
            collector=self.collector,
            stopwatch=stopwatch,
        )
        # A run that is stopped here has learned nothing from the phase yet, on any rank.
        groups = self._stopped_together(collect) if self.rollout.overlap is None else collect()
        self.engine.sleep()
        experience = compared(
            groups,
            self.planner.imitated(groups, phase),
            phase=phase,
            rollout=self.rollout,
            advantage=self.advantage,
            steps_per_phase=self.steps_per_phase,
            stopwatch=stopwatch,
        )
        return penalised(experience, self.policy_view, self.advantage)

    def state_dict(self) -> dict[str, Any]:
        """What later phases need of earlier ones, and what they are made of; plain values."""
        if self.planner is None:
            return {}
        return {**self.planner.state_dict(), "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with what a checkpoint holds; evaluating one needs none of it."""
        if self.planner is not None:
            check_same(before=state["fingerprint"], now=self.fingerprint)
            self.planner.load_state_dict(state)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the training set, there after `setup`."""
        return fingerprint(self.planner.prompts)

    # -- evaluation --------------------------------------------------------------------------

    def shares(self) -> list[Share]:
        """This rank's part of every benchmark."""
        return [
            Share(
                benchmark,
                problems,
                self.known.get(benchmark.name, {}),
                answers_per_chunk=self.answers_per_chunk,
                rank=self._rank,
                num_ranks=self._num_ranks,
            )
            for benchmark, problems in zip(self.benchmarks, self.problems, strict=True)
        ]

    def answer(self, share: Share, step: int) -> GradedChunk:
        """One chunk of a benchmark, graded; the same answers every time."""
        benchmark, missing = share.benchmark, share.missing(step)
        name, num_done = benchmark.name, share.num_done(step)
        verifier = self.verifier(benchmark.reward or self.reward_config)
        # Also where nothing is missing: an engine may be shared with a rank that misses some.
        fresh = answered(
            missing,
            share.seeds(missing, seed=self.seed),
            sampling=benchmark.sampling(self.rollout.max_response_tokens),
            collector=dataclasses.replace(self.collector, verifier=verifier),
            on_progress=lambda done, _: self.report_progress(
                name, num_done + done, share.num_answers
            ),
        )
        return GradedChunk(
            benchmark, len(share.problems), tuple(share.chunk(step)), share.groups(step, fresh)
        )

    # -- reading -----------------------------------------------------------------------------

    def _load_train(self, tokenizer: Tokenizer, verifier: Verifier) -> PromptSet:
        if self.train is None:
            raise ConfigError("data.train", "is not set", fix="give data.train.path")
        prompts = load_prompts(
            resolved(self.train), tokenizer, max_response_tokens=self.rollout.max_response_tokens
        )
        usable = verifier.check_golds([prompt.ground_truth for prompt in prompts.prompts])
        if self.trainer is not None:
            # A check may time out on one rank alone, and every rank needs the same prompts.
            usable = self.trainer.strategy.broadcast(usable)
        prompts = without_bad_golds(prompts, usable)
        for line in prompts.report.lines():
            self._report(f"{self.train.path}: {line}")
        check_prompts(
            prompts, self.train.path, self.rollout, needs_logprobs=self.recorded_behaviour
        )
        return prompts

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        """Of collecting; the progress callback may attach itself later than the engine starts."""
        self._ahead.check()
        self.report_progress(stage, done, total)

    def _report(self, text: str) -> None:
        """One line, from one rank."""
        if self._rank == 0:
            log.info(text)

    def _stopped_together(self, work: Callable[[], Made]) -> Made:
        """Do work without collectives, in which a run may be asked to stop on one rank alone."""
        return together(self.trainer.strategy, work) if self.trainer else work()

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _num_ranks(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def resolved(source: PromptSource) -> PromptSource:
    """The source with a `bundled:` path spelled out."""
    return dataclasses.replace(source, path=resolve(source.path))
