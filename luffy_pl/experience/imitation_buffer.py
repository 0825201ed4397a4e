"""Prompts that no rollout solved, kept until there are enough for one step of imitation (ReLIFT).

Reference: ReLIFT, arXiv 2506.07527. Prompts are kept by id, over all ranks and in the order of the
run, so the buffer is the same on every rank and small in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.data.expert_traces import choose_traces
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, Verdict


class ImitationBuffer:
    """Ids of unsolved prompts; `take` empties it in portions of `size`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ids: list[str] = []

    def add(self, ids: Sequence[str]) -> None:
        """Append prompts that are not waiting already."""
        waiting = set(self.ids)
        for prompt_id in ids:
            if prompt_id not in waiting:
                waiting.add(prompt_id)
                self.ids.append(prompt_id)

    def take(self) -> list[str]:
        """The `size` prompts that wait longest; none while there are fewer."""
        if len(self.ids) < self.size:
            return []
        taken, self.ids = self.ids[: self.size], self.ids[self.size :]
        return taken


def unsolved(groups: Sequence[Group]) -> list[str]:
    """Prompts all of whose graded rollouts are wrong, whatever a hint made of them then."""
    return [group.prompt.id for group in groups if is_unsolved(group)]


def is_unsolved(group: Group) -> bool:
    """Whether the policy alone has answered, and never right."""
    verdicts = {row.verdict.correct for row in group.responses if row.is_unaided} - {None}
    if verdicts:
        return verdicts == {False}
    return any(row.hint is not None and row.hint.after_failure for row in group.responses)


def imitated_group(
    prompt: Prompt, traces: Sequence[ExpertTrace], *, seed: int, phase: int
) -> Group:
    """One trace of a prompt, to be imitated; nothing is compared, so it is not graded."""
    [trace] = choose_traces(traces, 1, seed=seed, phase=phase, prompt_id=prompt.id)
    row = Response(
        source="expert",
        text=trace.text,
        token_ids=trace.token_ids,
        finish_reason="stop",
        verdict=Verdict(None, "not_graded", "none", None, prompt.ground_truth),
        num_given=len(trace.token_ids),
        role="imitation",
    )
    return Group(prompt=prompt, responses=(row,), rewards=(None,))
