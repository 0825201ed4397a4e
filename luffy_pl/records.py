"""What flows through a step: prompts and traces in, one Experience out.

Shapes in this file: N rows of a rollout phase, L tokens of its longest row (prompt and
response), T = L - 1 predictions: position t predicts token t + 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Source = Literal["rollout", "expert", "prefix", "replay", "hinted"]
"""Who wrote a response: the policy; an expert; an expert its beginning and the policy the rest; the
policy in an earlier phase; the policy under a hint that its prompt does not hold any more."""
Role = Literal["both", "policy", "imitation", "none"]
"""Terms a row takes part in: the policy-gradient term, imitation of its given tokens, or both."""
FinishReason = Literal["stop", "length"]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""


@dataclass(frozen=True)
class Prompt:
    """A question as the model sees it.

    `id` is stable across runs: it keys the sampling seeds. `text` is the rendered chat
    template and `token_ids` its encoding. `columns` is what its row held beyond the schema, for
    rewards, graders and metrics; `question` is the last user message, for hints. A prompt without
    the two is the same prompt.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    ground_truth: str
    data_source: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    question: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Hint:
    """Help that stood in the prompt when a row was sampled.

    prompt: the prompt with the hint in it.
    text: the hint alone.
    share: how much was told, from 0 to 1: of a trace, the share of its words.
    after_failure: whether it was given because the rollouts before it had failed.
    """

    prompt: Prompt
    text: str
    share: float
    after_failure: bool = False


@dataclass(frozen=True)
class ExpertTrace:
    """A demonstration for one prompt: the tokens after the prompt, EOS included.

    `logprobs` are the expert's own log-probabilities in nats where they were recorded.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """What an engine returns for one request.

    `token_ids` end with EOS if `finish_reason` is "stop"; `logprobs` (nats, of the sampled
    tokens at the sampling temperature) are None unless they were asked for. `policy_version` is the
    number of phases that the weights which sampled it had been trained for; -1 where none did.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[float, ...] | None = None
    policy_version: int = -1


@dataclass(frozen=True)
class Verdict:
    """How an answer was graded.

    `correct` is None when no grade is possible because the gold is unusable; such a row is
    left out of rewards and of metrics, never paid. `status` is one of ok, no_answer,
    truncated, refused, timeout, crash, gold_bad, no_grader (the grader is `none`: nothing is right
    or wrong, and terms alone pay); `tier` names the comparison that decided.
    `reward` is what the grader itself pays for the answer; None: 1 if correct, else 0.
    """

    correct: bool | None
    status: str
    tier: str
    extracted: str | None
    gold: str
    ms: float = 0.0
    reward: float | None = None

    @property
    def has_no_grader(self) -> bool:
        """Whether nobody was to say if the answer is right."""
        return self.status == "no_grader"

    @property
    def is_payable(self) -> bool:
        """Whether the answer gets a reward."""
        return self.correct is not None or self.has_no_grader


@dataclass(frozen=True)
class TeacherPrompt:
    """The prompt under which a teacher scores a row, with text that the policy does not see.

    Empty where the row is not taught, and then `why` says so: there is nothing to see, the
    tokenizer cannot write it, or it does not fit.
    """

    token_ids: tuple[int, ...]
    why: Literal["", "nothing_to_tell", "not_in_vocabulary", "too_long"] = ""


@dataclass(frozen=True)
class Response:
    """One row of a group, graded.

    The first `num_given` tokens were not sampled now, or not under the group's prompt: none of a
    rollout's, all of an expert trace's or a hinted row's, the shown part of a prefix row.
    `logprobs` are the engine's, of the tokens after them, and `given_logprobs` the author's, in
    nats; None where they are not known. `policy_version` is that of the completion. `hint` is what
    helped the policy to write it; where the group's prompt is the hinted one, all rows have it.
    `teacher_prompt` is None where a teacher sees what the policy sees.
    """

    source: Source
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    verdict: Verdict
    logprobs: tuple[float, ...] | None = None
    num_given: int = 0
    given_logprobs: tuple[float, ...] | None = None
    role: Role = "both"
    policy_version: int = -1
    teacher_prompt: TeacherPrompt | None = None
    hint: Hint | None = None

    @property
    def is_unaided(self) -> bool:
        """Whether the policy wrote all of it, in this phase and without a hint."""
        return self.source == "rollout" and self.hint is None


@dataclass(frozen=True)
class Group:
    """All responses of one prompt, rewards aligned with them (None: not graded)."""

    prompt: Prompt
    responses: tuple[Response, ...]
    rewards: tuple[float | None, ...]


@dataclass(frozen=True)
class Sampled:
    """Work of an engine for one request: tokens it was given, and of each answer it sampled."""

    num_given: int
    num_sampled: tuple[int, ...]


@dataclass(frozen=True)
class Experience:
    """One rollout phase of one rank: rollouts and expert traces, graded and padded.

    token_ids_NL: prompt then response, padded on the right.
    num_tokens_N: length of each row; nothing is ever inferred from a padding id.
    response_mask_NT: True where the predicted token is to be learned from.
    off_policy_mask_NT: True where it was given, not sampled in this phase.
    behaviour_logprob_NT: nats, log-probability under whoever wrote an off-policy token;
        0 (probability 1) for a teacher that recorded none.
    sampler_logprob_NT: nats, the engine's, for sampled tokens; None if not asked for.
    advantage_N, reward_N: per row; a row without a grade has reward NaN and no mask. An advantage
        is NaN until rewards are compared (`experience/compare.py`).
    group_N: number of the row's group within this record; rows of a group are neighbours.
    in_policy_N, in_imitation_N: whether the row is in the policy term, and its given tokens in
        the imitation term.
    is_taught_N: whether a teacher scores the row; None: every row.
    teacher_prompts: of each row, the prompt that the teacher sees instead of its own, empty for a
        row that is not taught; None: the teacher sees what the policy sees.
    reference_logprob_NT, teacher_logprob_NT: nats, of a KL's reference and of a distillation's
        teacher that are on a server; None where the trainer computes them, or nobody asks.
    step_N: optimizer step of this phase that trains the row.
    step_imitates: for each optimizer step, whether it does nothing but imitate.
    micro_N: micro-batch of that step in which the row was dealt to this rank, -1 for a row that is
        not learned from; None before rows are dealt, and for a rank that is alone.
    policy_version_N: phases that the weights which sampled the row had been trained for; -1 for a
        row that was not sampled. Below `phase` where collecting and training overlap.
    sampled: what the engine was asked for, groups that were then replaced included.
    hints: how many groups were to get a hint, and what became of those hints; empty without
        guidance.
    host: the record as it was before it went to a device, of which lengths, masks and steps are
        read so that nobody waits for the device; None for one that is on the host.
    """

    phase: int
    temperature: float
    token_ids_NL: Tensor
    num_tokens_N: Tensor
    response_mask_NT: Tensor
    off_policy_mask_NT: Tensor
    behaviour_logprob_NT: Tensor
    advantage_N: Tensor
    reward_N: Tensor
    group_N: Tensor
    in_policy_N: Tensor
    in_imitation_N: Tensor
    step_N: Tensor
    step_imitates: tuple[bool, ...]
    micro_N: Tensor | None = None
    sampler_logprob_NT: Tensor | None = None
    policy_version_N: Tensor | None = None
    is_taught_N: Tensor | None = None
    teacher_prompts: tuple[tuple[int, ...], ...] | None = None
    reference_logprob_NT: Tensor | None = None
    teacher_logprob_NT: Tensor | None = None
    groups: tuple[Group, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    sampled: tuple[Sampled, ...] = ()
    hints: dict[str, int] = field(default_factory=dict)
    host: Experience | None = None

    @property
    def on_host(self) -> Experience:
        """The record whose tensors can be read without waiting."""
        return self if self.host is None else self.host

    def to(self, device: torch.device | str) -> Experience:
        """The same record with its tensors on `device`."""
        moved = self._map(lambda _, tensor: tensor.to(device))
        is_host = moved.token_ids_NL.device.type == "cpu"
        return dataclasses.replace(moved, host=None if is_host else self.on_host)

    def rows(self, index_n: Tensor) -> Experience:
        """The rows `index_n`, trimmed to the longest of them; the groups are dropped.

        Args:
            index_n: on the host; one on a device is waited for.
        """
        from luffy_pl.process.staging import on_device  # torch is not imported with records

        host_n = index_n.cpu()
        num_tokens = int(self.on_host.num_tokens_N[host_n].max())
        index_n = on_device(host_n, self.token_ids_NL.device)

        def take(name: str, tensor: Tensor) -> Tensor:
            taken = tensor[index_n]
            width = num_tokens if name == "token_ids_NL" else num_tokens - 1
            return taken if taken.dim() == 1 else taken[:, :width]

        host = None if self.host is None else self.host.rows(host_n)
        prompts = self.teacher_prompts
        if prompts is not None:
            prompts = tuple(prompts[row] for row in host_n.tolist())
        return dataclasses.replace(self._map(take), groups=(), host=host, teacher_prompts=prompts)

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Experience:
        named = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        changes: dict[str, Any] = {
            name: change(name, value) for name, value in named if hasattr(value, "dim")
        }
        return dataclasses.replace(self, **changes)
