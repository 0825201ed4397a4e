"""Which rows of a phase no teacher scores, and why."""

from __future__ import annotations

from typing import get_args, get_type_hints

import torch

from luffy_pl.objective.metrics import Pair
from luffy_pl.records import Experience, TeacherPrompt


def teacher_prompt_pairs(batch: Experience) -> dict[str, Pair]:
    """Numerators and denominators of this rank; none where a teacher sees what the policy sees.

    teacher/nothing_to_tell, /not_in_vocabulary, /too_long: shares of the sampled rows that are not
    taught, by the reason: there is no text, the tokenizer cannot write it, or it does not fit.
    """
    rows = [row for group in batch.groups for row in group.responses]
    prompts = [row.teacher_prompt for row in rows if row.teacher_prompt is not None]
    if batch.teacher_prompts is None:
        return {}
    device = batch.reward_N.device
    total = torch.tensor(len(prompts), device=device)
    reasons = filter(None, get_args(get_type_hints(TeacherPrompt)["why"]))
    return {
        f"teacher/{why}": (torch.tensor(sum(p.why == why for p in prompts), device=device), total)
        for why in reasons
    }
