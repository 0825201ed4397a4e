"""Rows that the loss gives no gradient are read without one, and the step is the same."""

import dataclasses

import pytest
import torch
from training.test_gradient_invariance import gradients, random_experience

from luffy_pl.objective.settings import EntropyConfig, ObjectiveConfig, SftConfig
from luffy_pl.training import micro_batches
from luffy_pl.training.module import LuffyModule

PLAIN = ObjectiveConfig(entropy=EntropyConfig(coef=0.0))


def with_even_groups(*groups):
    """Advantages of these groups are 0."""
    experience = random_experience()
    is_even_N = torch.isin(experience.group_N, torch.tensor(groups))
    advantage_N = experience.advantage_N.masked_fill(is_even_N, 0.0)
    return dataclasses.replace(experience, advantage_N=advantage_N)


@pytest.fixture
def backwards(monkeypatch):
    """Backward passes that were made."""
    made, inner = [], LuffyModule.manual_backward

    def counted(self, loss, *args, **options):
        made.append(loss)
        return inner(self, loss, *args, **options)

    monkeypatch.setattr(LuffyModule, "manual_backward", counted)
    return made


@pytest.mark.parametrize("groups", [(1,), (0, 2), (0, 1, 2, 3)])
def test_the_gradient_is_that_of_all_rows(monkeypatch, backwards, groups):
    experience = with_even_groups(*groups)
    [found] = gradients(experience, PLAIN, micro_batch_tokens=21)
    rows = experience.response_mask_NT.any(dim=1) & (experience.advantage_N != 0)
    assert len(backwards) == rows.sum()
    monkeypatch.setattr(micro_batches, "rows_without_gradient", lambda *_: set())
    [expected] = gradients(experience, PLAIN, micro_batch_tokens=21)
    assert len(backwards) == rows.sum() + 11  # one row of twelve has no grade
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "objective",
    [ObjectiveConfig(entropy=EntropyConfig(coef=0.1)), ObjectiveConfig(sft=SftConfig(coef=0.1))],
    ids=["entropy", "imitation"],
)
def test_another_term_learns_from_every_row(backwards, objective):
    gradients(with_even_groups(0, 1), objective, micro_batch_tokens=21)
    assert len(backwards) == 11
