"""Settings of the collecting side: the block `data.rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NoReturn

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.experience.guidance import PrefixConfig
from luffy_pl.experience.replay import ReplayConfig
from luffy_pl.experience.routing import Router
from luffy_pl.guidance.settings import GuidanceConfig, PerPrompt
from luffy_pl.guidance.teacher_prompts import TeacherPromptConfig
from luffy_pl.rollout.engine import MAX_TEMPERATURE


@dataclass(frozen=True)
class RolloutConfig:
    """What one phase collects."""

    num_phases: int = bounded(500, at_least=1, at_most=1e9)
    """Rollout phases of the run."""
    prompts_per_phase: int = bounded(128, at_least=1, at_most=1e9)
    """Prompts of a phase, over all ranks."""
    group_size: int = bounded(8, at_least=1, at_most=1e6)
    """Responses per prompt, rollouts and given rows together."""
    expert_traces_per_group: int = bounded(1, at_least=0, at_most=1e6)
    """How many of them an expert wrote, or began; 0 is plain GRPO at the same group size. A prompt
    with fewer traces shows them in several rows."""
    prefix: PrefixConfig = field(default_factory=PrefixConfig)
    """How much of an expert trace its row shows; the policy writes the rest."""
    max_response_tokens: int = bounded(8192, at_least=1, at_most=1e9)
    """Sampling stops here; an expert trace is never cut, its end is the answer."""
    temperature: float = bounded(1.0, above=0, at_most=MAX_TEMPERATURE)
    """Softmax temperature of sampling; the loss divides its logits by the same number. Above 0:
    greedy rollouts of one prompt are all the same."""
    refill_tries: int = bounded(0, at_least=0, at_most=1e6)
    """How often groups whose rewards are all the same are replaced by groups of other prompts
    (DAPO's dynamic sampling); what is still such a group after that is kept. 0 is off."""
    routing: Router | None = None
    """Which rows of a group learn, by the number of right rollouts (HPT); null: all do."""
    sft_phases: int = bounded(0, at_least=0, at_most=1e9)
    """First phases of the run, in which nothing is sampled and expert traces are imitated."""
    imitation_buffer: int | None = bounded(None, at_least=1, at_most=1e9)
    """Prompts that no rollout solved are kept until there are so many, then imitated in a step of
    their own (ReLIFT); null is off."""
    guidance: GuidanceConfig | None = None
    """A hint in the prompt, always or after a failure (GHPO, POPE, Guide-GRPO, Critique-GRPO); null
    is off."""
    teacher_prompt: TeacherPromptConfig | None = None
    """What the teacher of a distillation sees beside the question; null: the plain prompt."""
    replay: ReplayConfig | None = None
    """The policy's own earlier successes as given rows (ExGRPO); null is off."""
    overlap: Literal["one_step_off"] | None = None
    """one_step_off: the next phase is sampled while this one trains, from the weights before it;
    the objective must then correct for their difference. null: one after the other."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.rollout")
        if not 0 <= self.expert_traces_per_group <= self.group_size:
            _refuse(
                "expert_traces_per_group",
                f"must be between 0 and data.rollout.group_size={self.group_size}",
                self.expert_traces_per_group,
                "lower it, or raise data.rollout.group_size",
            )
        self._check_guided_rows()
        self._check_guidance()
        self._check_overlap()

    def _check_guided_rows(self) -> None:
        """Two settings that claim, or need, the same rows of a group."""
        num_guided = self.expert_traces_per_group
        if self.replay is not None and num_guided:
            _refuse(
                "replay",
                f"and data.rollout.expert_traces_per_group={num_guided} both claim the given row "
                "of a group",
                "on",
                "set expert_traces_per_group: 0, or replay: null",
            )
        if self.imitation_buffer is not None and num_guided:
            _refuse(
                "imitation_buffer",
                f"imitates traces that data.rollout.expert_traces_per_group={num_guided} already "
                "puts into every group",
                self.imitation_buffer,
                "set expert_traces_per_group: 0, or imitation_buffer: null",
            )
        if self.routing is not None and not num_guided:
            _refuse(
                "routing",
                "sends prompts to expert rows, and data.rollout.expert_traces_per_group=0",
                "on",
                "set expert_traces_per_group: 1, or routing: null",
            )
        if self.prefix != PrefixConfig() and not num_guided:
            name = "strategy" if self.prefix.strategy != "full" else "when"
            _refuse(
                f"prefix.{name}",
                "shows a part of an expert trace, and data.rollout.expert_traces_per_group=0",
                getattr(self.prefix, name),
                "set expert_traces_per_group: 1, or prefix.strategy: full",
            )

    def _check_guidance(self) -> None:
        """A hint for the whole group, beside rows that were written for the plain prompt."""
        if self.guidance is None:
            return
        others = ("expert_traces_per_group", "replay")
        for name in (name for name in others if getattr(self, name)):
            if self.guidance.put_back == "hinted":
                _refuse(
                    "guidance.put_back",
                    "gives the whole group a prompt with a hint, and the rows of "
                    f"data.rollout.{name} were written for the plain one",
                    "hinted",
                    f"set put_back: plain, or turn {name} off",
                )
        if self.guidance.follows and self.prefix.when == "all_failed":
            _refuse(
                "guidance.when",
                "and data.rollout.prefix.when=all_failed both claim the groups that failed",
                self.guidance.when,
                "set prefix.when: always, or guidance: null",
            )
        num_free = self.group_size - self.expert_traces_per_group
        if (self.guidance.rows or 1) > num_free:
            _refuse(
                "guidance.rows",
                f"is more than the {num_free} rows of a group that the policy samples",
                self.guidance.rows,
                "lower it, or raise data.rollout.group_size",
            )

    def _check_overlap(self) -> None:
        """What needs the phase before, trained, cannot be collected while it trains."""
        if self.overlap is not None and self.per_prompt:
            _refuse(
                "overlap",
                "collects a phase while ranks may wait for each other elsewhere, and per_prompt "
                "gathers over ranks",
                self.overlap,
                "set overlap: null, or per_prompt: null",
            )
        for name in ("replay", "imitation_buffer"):
            if self.overlap is not None and getattr(self, name) is not None:
                _refuse(
                    "overlap",
                    f"collects a phase before the one that fills data.rollout.{name} has trained",
                    self.overlap,
                    f"set overlap: null, or {name}: null",
                )

    def num_rows(self, phase: int) -> int:
        """Rows of a group: while the run only imitates, the expert's alone."""
        if phase < self.sft_phases:
            return max(1, self.expert_traces_per_group)
        return self.group_size

    @property
    def max_staleness(self) -> int:
        """Phases by which the weights that sample may be behind those that are trained."""
        return 0 if self.overlap is None else 1

    @property
    def per_prompt(self) -> dict[str, PerPrompt]:
        """Shares that each prompt has for itself, by what they are of."""
        own = {
            "guidance": None if self.guidance is None else self.guidance.share.per_prompt,
            "prefix": self.prefix.per_prompt,
        }
        return {name: one for name, one in own.items() if one is not None}

    @property
    def needs_own_logprobs(self) -> bool:
        """Whether rows keep the engine's log-probabilities as those of their author."""
        puts_back = self.guidance is not None and self.guidance.put_back == "plain"
        return self.replay is not None or puts_back

    @property
    def needs_traces(self) -> bool:
        """Whether every prompt must have an expert trace; one can stand in several rows."""
        hints = self.guidance is not None and self.guidance.what == "trace"
        return bool(
            self.expert_traces_per_group or self.sft_phases or self.imitation_buffer or hints
        )


def _refuse(name: str, what: str, value: object, fix: str) -> NoReturn:
    raise ConfigError(f"data.rollout.{name}", what, value=value, fix=fix)
