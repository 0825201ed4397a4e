"""The DataModule: prompts in, one Experience per rollout phase out.

It owns the interleaving of rollouts and expert traces, for training, and the graded answers of
every benchmark, for evaluation. Both are sized iterables: without a length Lightning fetches one
batch ahead, and rollouts would come from the policy before the last update.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import lightning as L
import torch

from luffy_pl.bundled import resolve
from luffy_pl.data.prompts import PromptSet
from luffy_pl.data.rendering import RENDERER
from luffy_pl.data.source import PromptSource
from luffy_pl.data.tokenizer import load_tokenizer, longest_context, stop_token_ids
from luffy_pl.experience.answering import answer_streams
from luffy_pl.experience.benchmarks import Benchmark, check_benchmarks
from luffy_pl.experience.checks import check_ranks
from luffy_pl.experience.collect import collect_phase
from luffy_pl.experience.one_ahead import OneAhead
from luffy_pl.experience.phases import PhasePlanner
from luffy_pl.experience.policy_view import PolicyView
from luffy_pl.experience.reading import Asking, build_hinter, read_benchmarks, read_training
from luffy_pl.experience.sampling import Collector, StageProgress
from luffy_pl.experience.scoring import Verifiers
from luffy_pl.experience.served import reach_servers
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.experience.share import Share
from luffy_pl.experience.stream import SizedStream
from luffy_pl.guidance.hinter import Hinter
from luffy_pl.guidance.teacher_prompts import (
    TeacherPrompter,
    build_teacher_prompter,
    check_teachers,
)
from luffy_pl.objective.advantage import Advantage, GroupAdvantage
from luffy_pl.process.interrupt import together
from luffy_pl.records import Experience, Group, Prompt
from luffy_pl.reward.reward import RewardConfig, build_reward_function
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.scoring_server import ScoringServer, ServedModel
from luffy_pl.rollout.start import check_installed, start_supervised
from luffy_pl.rollout.supervised import SupervisedEngine

log = logging.getLogger(__name__)

Made = TypeVar("Made")


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
        chat_template_kwargs: what the chat template is given beside the messages, in training and
            evaluation, such as `{enable_thinking: false}` of Qwen3.
        answers_per_chunk: about how many answers of a benchmark a rank samples, grades and keeps
            together; a killed evaluation loses no more. Results do not depend on it.
        seed: linked from `seed_everything`; keys every draw of the run.
        steps_per_phase: linked from `model.optimizer`; a phase is cut into this many minibatches.
        sampler_logprobs: linked: whether the objective reads the engine's log-probabilities.
        recorded_behaviour: linked: whether it reads those that an expert recorded.
        teacher_paths: linked: folders or hub names of `model.frozen`, by name.
        teacher_servers: linked: servers of `model.frozen`, by name.
    """

    # There after `setup`.
    engine: SupervisedEngine
    collector: Collector

    def __init__(
        self,
        model_path: str,
        train: PromptSource | None = None,
        benchmarks: tuple[Benchmark, ...] = (),
        rollout: RolloutConfig = RolloutConfig(),  # noqa: B008  frozen
        advantage: Advantage = GroupAdvantage(),  # noqa: B008  frozen
        engine: EngineConfig = EngineConfig(),  # noqa: B008  frozen
        reward: RewardConfig = RewardConfig(),  # noqa: B008  frozen
        chat_template_kwargs: dict[str, Any] | None = None,
        answers_per_chunk: int = 512,
        seed: int = 0,
        steps_per_phase: int = 1,
        sampler_logprobs: bool = False,
        recorded_behaviour: bool = False,
        teacher_paths: dict[str, str] = {},  # noqa: B006  never changed
        teacher_servers: dict[str, ServedModel] = {},  # noqa: B006  never changed
    ) -> None:
        super().__init__()
        check_benchmarks(benchmarks, answers_per_chunk=answers_per_chunk)
        self.model_path = resolve(model_path)
        self.train, self.benchmarks = train, benchmarks
        self.rollout, self.advantage = rollout, advantage
        self.engine_config, self.reward_config = engine, reward
        self.reward_of = build_reward_function(
            reward, max_response_tokens=rollout.max_response_tokens
        )
        self.chat_template_kwargs = chat_template_kwargs
        self.answers_per_chunk = answers_per_chunk
        self.seed, self.steps_per_phase = seed, steps_per_phase
        self.sampler_logprobs = sampler_logprobs or rollout.needs_own_logprobs
        self.recorded_behaviour, self.teacher_paths = recorded_behaviour, teacher_paths
        self.teacher_servers = teacher_servers
        self.planner: PhasePlanner | None = None
        self.hinter: Hinter | None = None
        self.teacher_prompter: TeacherPrompter | None = None
        self.prompts: PromptSet | None = None
        self.problems: list[tuple[Prompt, ...]] = []
        self.known: Mapping[str, Mapping[str, Group]] = {}
        self._policy: PolicyView | None = None
        self._listeners: list[StageProgress] = []
        self._ahead = OneAhead(self.collect, rollout.num_phases)
        self._verifiers = Verifiers()

    def attach(
        self,
        *,
        policy: PolicyView | None = None,
        progress: StageProgress | None = None,
        known: Mapping[str, Mapping[str, Group]] | None = None,
    ) -> None:
        """Take what other parts of a run make, and no configuration can name.

        Args:
            policy: answers what collecting asks of the weights; the module attaches itself when
                fit starts.
            progress: called when a stage moves, in the order of attaching, until `teardown`.
            known: graded answers that an earlier start of this evaluation left, by benchmark and
                problem; they are not sampled again.
        """
        if policy is not None:
            self._policy = policy
        if progress is not None and progress not in self._listeners:
            self._listeners.append(progress)
        if known is not None:
            self.known = known

    def report_progress(self, stage: str, done: int, total: int) -> None:
        """Tell who listens how far a stage is: generate, score, train, or a benchmark's name."""
        for listener in self._listeners:
            listener(stage, done, total)

    # -- Lightning hooks ---------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read everything, then start the engine: bad input costs seconds, not a model load."""
        if hasattr(self, "collector"):
            return
        self.read(stage)
        servers = self._reach_servers()
        self._report("starting the rollout engine")
        self.engine = start_supervised(
            self.model_path,
            self.engine_config,
            stop_token_ids=stop_token_ids(self.tokenizer),
            run_dir=self.trainer.default_root_dir if self.trainer else ".",
        )
        self.collector = Collector(
            engine=self.engine,
            verifier=self._verifiers.of(self.reward_config),
            decode=lambda ids: self.tokenizer.decode(ids, skip_special_tokens=False),
            reward_of=self.reward_of,
            seed=self.seed,
            rollout=self.rollout,
            traces=self.prompts.traces if self.prompts else {},
            sampler_logprobs=self.sampler_logprobs,
            max_model_len=self.asking.max_model_len,
            hinter=self.hinter,
            teacher_prompter=self.teacher_prompter,
            servers=servers,
            on_progress=self._on_progress,
        )

    def read(self, stage: str) -> None:
        """Read tokenizer, prompts, traces and problems: all that `setup` needs but an engine."""
        check_installed(self.engine_config)
        self.tokenizer = tokenizer = load_tokenizer(
            self.model_path, remote_code=self.engine_config.remote_code
        )
        self.asking = Asking(
            self.engine_config.max_model_len
            or longest_context(self.model_path, remote_code=self.engine_config.remote_code),
            self.chat_template_kwargs,
        )
        if stage == "fit":
            check_ranks(
                self.rollout, num_ranks=self._num_ranks, steps_per_phase=self.steps_per_phase
            )
            self.hinter = build_hinter(
                self.train, self.rollout, self.asking, tokenizer, seed=self.seed
            )
            self.prompts = read_training(
                self.train,
                tokenizer,
                verifier=self._verifiers.of(self.reward_config),
                rollout=self.rollout,
                asking=self.asking,
                needs_logprobs=self.recorded_behaviour,
                agree=self.trainer.strategy.broadcast if self.trainer else lambda found: found,
                report=self._report,
            )
            self.teacher_prompter = self._read_teachers()
            for writer in filter(None, (self.hinter, self.teacher_prompter)):
                writer.check(self.prompts.prompts)
            self.planner = PhasePlanner(
                self.prompts,
                self.rollout,
                seed=self.seed,
                rank=self._rank,
                num_ranks=self._num_ranks,
            )
        self.problems = read_benchmarks(
            self.benchmarks,
            tokenizer,
            verifier_of=lambda one: self._verifiers.of(one.reward or self.reward_config),
            asking=self.asking,
            report=self._report,
        )
        RENDERER.close()

    def _read_teachers(self) -> TeacherPrompter | None:
        """Compare the tokenizers of teachers with the policy's; what writes their prompts."""
        code = self.engine_config.remote_code
        check_teachers(self.tokenizer, self.teacher_paths)
        return build_teacher_prompter(
            self.rollout.teacher_prompt,
            self.tokenizer,
            hint_template=None if self.train is None else self.train.hint_template,
            own_window=longest_context(self.model_path, remote_code=code),
            teachers=self.teacher_paths.values(),
            seed=self.seed,
        )

    def _reach_servers(self) -> dict[str, ScoringServer]:
        """The servers that score tokens in training; none in an evaluation."""
        if self.prompts is None or not self.teacher_servers:
            return {}
        servers = reach_servers(
            self.teacher_servers,
            self.tokenizer,
            self.prompts,
            self.rollout,
            max_model_len=self.asking.max_model_len,
            report=self._report,
        )
        if self.teacher_prompter is not None:
            windows = (server.window for server in servers.values())
            self.teacher_prompter = self.teacher_prompter.within(min(windows))
        return servers

    def teardown(self, stage: str) -> None:
        """End the verifiers' workers; the engine stays for a following validate."""
        self._ahead.cancel()  # a trainer that was told to stop early leaves a phase over
        self._listeners.clear()
        self._verifiers.close()

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
        return answer_streams(
            self.shares(),
            collector=self.collector,
            verifier_of=lambda reward: self._verifiers.of(reward or self.reward_config),
            reward_of=lambda one: one.reward_of(
                self.reward_config, self.rollout.max_response_tokens
            ),
            max_tokens=self.rollout.max_response_tokens,
            on_progress=self.report_progress,
        )

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Only an Experience holds tensors."""
        return batch.to(device) if isinstance(batch, Experience) else batch

    # -- one phase, one chunk ----------------------------------------------------------------

    def probe_prompt(self) -> Prompt:
        """Any prompt of the run, always the same one."""
        trained = self.prompts.prompts if self.prompts else ()
        return next(itertools.chain(trained, *self.problems))

    def collect(self, phase: int) -> Experience:
        """Collect this rank's share of phase `phase`, from the weights that phase is to train.

        Where phases overlap, from those before at most `max_staleness` phases.
        """
        assert self.planner is not None  # a fit alone collects phases
        return collect_phase(
            phase,
            planner=self.planner,
            collector=self.collector,
            policy=self._policy,
            advantage=self.advantage,
            steps_per_phase=self.steps_per_phase,
            # While phases overlap this is another thread: ranks agree where a phase is taken.
            together=self._stopped_together if self.rollout.overlap is None else lambda do: do(),
        )

    def state_dict(self) -> dict[str, Any]:
        """What later phases need of earlier ones, and what they are made of; plain values."""
        if self.planner is None:
            return {}
        return self.planner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with what a checkpoint holds; evaluating one needs none of it."""
        if self.planner is not None:
            self.planner.load_state_dict(state)

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

    # -- of this rank ------------------------------------------------------------------------

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        """Report that collecting moved, unless nobody wants the phase any more."""
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
