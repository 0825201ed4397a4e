"""Rows that are trained by other ranks than collected them: one process's gradient and values."""

import dataclasses

import pytest
import torch
from torch import distributed as dist
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.objective.normalize import count_terms
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.terms import OptimizerStep, active_terms
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.process.neighbours import neighbours
from luffy_pl.training.exchange import deal_rows
from luffy_pl.training.micro_batches import micro_batches, rows_by_step
from luffy_pl.training.minibatch import Before, Seen, backward_micro_batches

GROUPS, STEPS, BUDGET = 6, 2, 40
OBJECTIVE = ObjectiveConfig()


def phase(ranks):
    """Groups of a phase, the longest rows first: the first rank collects those."""
    whole = random_experience(num_groups=GROUPS * ranks, steps=1)
    order = whole.num_tokens_N.view(-1, 3).sum(1).argsort(descending=True)
    index_n = (3 * order[:, None] + torch.arange(3)).flatten()
    step_G = torch.arange(GROUPS * ranks) % GROUPS * STEPS // GROUPS
    return dataclasses.replace(
        whole.rows(index_n),
        group_N=torch.arange(GROUPS * ranks).repeat_interleave(3),
        groups=tuple(whole.groups[group] for group in order),
        step_N=step_G.repeat_interleave(3),
        step_imitates=(False,) * STEPS,
    )


def collected(whole, rank):
    """What one rank has of it."""
    groups = slice(GROUPS * rank, GROUPS * (rank + 1))
    own = whole.rows(torch.arange(3 * groups.start, 3 * groups.stop))
    return dataclasses.replace(own, group_N=own.group_N - groups.start, groups=whole.groups[groups])


def train(policy, record, totals_of):
    """Gradients of all steps together, what was seen, and micro-batches of each step."""
    old_NT = torch.full_like(record.behaviour_logprob_NT, torch.nan, dtype=torch.double)
    seen, counts = Seen.like(old_NT), []
    for rows in rows_by_step(record):
        micros = micro_batches(record, rows, token_budget=BUDGET, shares_prompts=True)
        counts.append(len(micros))
        step = OptimizerStep(
            OBJECTIVE,
            terms=active_terms(OBJECTIVE, 0, entropy_coef=0.001, kl_coef=0.0, foreign={}),
            totals=totals_of(record, rows),
            max_response_tokens=16,
        )
        backward_micro_batches(
            policy, micros, step=step, forwards=ForwardCount(), before=Before(old_NT),
            frozen=FrozenModels({}), seen=seen, backward=torch.Tensor.backward,
        )  # fmt: skip
    return [weight.grad for weight in policy.parameters()], vars(seen), counts


def counted(record, rows):
    """Divisors in double precision, as a run counts them."""
    return {name: n.double() for name, n in count_terms(record, rows, OBJECTIVE).items()}


def of_all_ranks(record, rows):
    counts = counted(record, rows)
    summed = torch.stack(list(counts.values()))
    dist.all_reduce(summed)
    return dict(zip(counts, summed, strict=True))


def padding(counts):
    """Share of all micro-batches that ranks make to wait for others."""
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, counts)
    made = sum(max(step) * len(every) for step in zip(*every, strict=True))
    return 1 - sum(map(sum, every)) / made


def main():
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    whole = phase(ranks)
    expected, values, _ = train(tiny_policy(), whole, counted)
    own = collected(whole, rank)
    by_place = [
        len(micro_batches(own, rows, token_budget=BUDGET, shares_prompts=True))
        for rows in rows_by_step(own)
    ]
    dealt = deal_rows(own, neighbours(ranks), token_budget=BUDGET, shares_prompts=True)
    found, seen, counts = train(tiny_policy(), dealt.rows, of_all_ranks)
    for gradient, wanted in zip(found, expected, strict=True):
        dist.all_reduce(gradient)
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)
    for name, value in dealt.returned(seen).items():
        rows = values[name][3 * GROUPS * rank : 3 * GROUPS * (rank + 1)]
        torch.testing.assert_close(value, rows[:, : value.shape[1]], rtol=1e-9, atol=1e-12)
        assert not rows[:, value.shape[1] :].any()
    before, after = padding(by_place), padding(counts)
    assert before > 0.1, before
    assert after == 0, after
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_dealt_rows_have_the_gradient_of_one_process(luffy_pl, ranks):
    done = luffy_pl(script=__file__, ranks=ranks, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
