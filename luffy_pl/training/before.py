"""What is known of a phase's tokens before its first update: old and frozen log-probabilities.

Shapes: N rows of this rank, T predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from luffy_pl.errors import ConfigError
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience
from luffy_pl.training.micro_batches import MicroBatch
from luffy_pl.training.minibatch import Before, logprobs
from luffy_pl.training.teacher_view import teacher_view

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
    reference_NT = teacher_NT = None
    if "kl" in terms:
        name = objective.kl.model
        passes = frozen.forwards(name)
        with frozen.scoring(name) as reference:
            reference_NT = scored(reference, experience, micros(minibatches), forwards=passes)
    config = objective.distillation
    learns = not all(experience.step_imitates)
    if config is not None and learns and config.coefficient(experience.phase):
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
    device = experience.token_ids_NL.device
    rows = view.rows.to(device)
    micros = cut(rows, list(range(len(rows.num_tokens_N))))
    found_nt = scored(teacher, rows, micros, forwards=forwards)
    scored_NT = found_nt.new_full(experience.response_mask_NT.shape, torch.nan)
    scored_NT.view(-1)[view.cells_C.to(device)] = found_nt.view(-1)[view.own_cells_C.to(device)]
    return scored_NT


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
