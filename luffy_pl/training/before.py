"""What is known of a phase's tokens before its first update: old and frozen log-probabilities.

Shapes: N rows of this rank, T predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from luffy_pl.errors import ConfigError
from luffy_pl.experience.teacher_view import teacher_view
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience
from luffy_pl.training.micro_batches import MicroBatch
from luffy_pl.training.minibatch import Before, logprobs

Cut = Callable[[Experience, list[int]], list[MicroBatch]]


def before_update(
    experience: Experience,
    minibatches: Sequence[list[int]],
    *,
    policy: Policy,
    frozen: FrozenModels,
    objective: ObjectiveConfig,
    terms: Collection[str],
    forwards: ForwardCount,
    cut: Cut,
) -> Before:
    """Score the rows of a phase; every rank calls this together.

    Args:
        minibatches: rows of each optimizer step.
        terms: names of those of the loss.
        forwards: counts the passes of the policy.
        cut: rows into micro-batches.
    """

    def micros(minibatches: Iterable[list[int]]) -> Iterator[MicroBatch]:
        return (micro for rows in minibatches for micro in cut(experience, rows))

    if objective.old_logprob == "trainer":
        # Before the first update the current log-probability, detached, is the old one.
        old_NT = scored(policy, experience, micros(minibatches[1:]), forwards=forwards)
    else:
        old_NT = sampler_logprob(experience)
    # What a server has scored came with the rows.
    reference_NT, teacher_NT = experience.reference_logprob_NT, experience.teacher_logprob_NT
    if "kl" in terms and reference_NT is None:
        name = objective.kl.model
        passes = frozen.forwards(name)
        with frozen.scoring(name) as reference:
            reference_NT = scored(reference, experience, micros(minibatches), forwards=passes)
    config = objective.distillation
    learns = not all(experience.step_imitates)
    is_asked = config is not None and learns and bool(config.coefficient(experience.phase))
    if config is not None and is_asked and teacher_NT is None:
        passes = frozen.forwards(config.model)
        with frozen.scoring(config.model) as teacher:
            if experience.teacher_prompts is None:
                teacher_NT = scored(teacher, experience, micros(minibatches), forwards=passes)
            else:
                teacher_NT = scored_apart(teacher, experience, cut, forwards=passes)
    return Before(old_NT, reference_NT, teacher_NT)


@torch.no_grad()
def scored(
    policy: Policy, experience: Experience, micros: Iterable[MicroBatch], *, forwards: ForwardCount
) -> Tensor:
    """Log-probability [N, T] of the rows in `micros`; NaN in all other rows."""
    dtype = torch.promote_types(next(policy.parameters()).dtype, torch.float32)
    found_NT = experience.advantage_N.new_full(
        experience.response_mask_NT.shape, torch.nan, dtype=dtype
    )
    for micro in micros:
        logprob_nt, _ = logprobs(policy, micro, forwards=forwards)
        found_NT[micro.index_n, : logprob_nt.shape[1]] = logprob_nt
    return found_NT


def scored_apart(
    teacher: Policy, experience: Experience, cut: Cut, *, forwards: ForwardCount
) -> Tensor:
    """Log-probability [N, T] of taught tokens under the teacher's prompts; NaN elsewhere.

    Rows that see other text than the policy's have other lengths, so they are packed on their own.
    """
    view = teacher_view(experience)
    rows = view.rows.to(experience.token_ids_NL.device)
    micros = cut(rows, list(range(len(rows.num_tokens_N))))
    return view.in_place(scored(teacher, rows, micros, forwards=forwards), experience)


def sampler_logprob(experience: Experience) -> Tensor:
    """The engine's log-probabilities.

    Raises:
        ConfigError: the rollouts came without.
    """
    if experience.sampler_logprob_NT is None:
        raise ConfigError(
            "model.objective.old_logprob",
            "the rollouts came without log-probabilities",
            value="sampler",
            fix="set data.sampler_logprobs, or use old_logprob: trainer",
        )
    return experience.sampler_logprob_NT
