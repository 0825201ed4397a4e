"""A teacher in a training step: what it changes, and that no cut of the rows changes it."""

import dataclasses

import pytest
import torch
from training.test_gradient_invariance import (
    gradients_of,
    padded,
    random_experience,
    tiny_policy,
)

from luffy_pl.experience.teacher_view import teacher_view
from luffy_pl.objective.settings import DistillationConfig, EntropyConfig, ObjectiveConfig
from luffy_pl.policy.frozen import FrozenConfig, FrozenModels, WholeModel
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

ADD = DistillationConfig("teacher", with_reward=False)
SCALE = DistillationConfig("teacher", mode="scale", coef=0.5, clip=0.2)
COPY = FrozenConfig("copy")


def gradients(experience, distillation, *, seed=5, refreshed=False, **optimizer):
    """The gradient of every optimizer step of one phase, beside the module."""
    module = LuffyModule(
        PolicyConfig(path="unused"),
        ObjectiveConfig(entropy=EntropyConfig(coef=0.0), distillation=distillation),
        OptimizerConfig(max_grad_norm=None, lr=1e-2, **optimizer),
        max_response_tokens=16,
        frozen={"teacher": COPY} if distillation else {},
    )
    module.policy = tiny_policy()
    teacher = WholeModel(tiny_policy(seed=seed))
    module.use_frozen(FrozenModels({"teacher": teacher}, {"teacher": COPY}))
    if refreshed:
        module.frozen.follow(module.policy, 1)
    return gradients_of(module, experience)


def largest(steps):
    return max(gradient.abs().max().item() for step in steps for gradient in step)


def prompts_of(experience):
    return [experience.groups[group].prompt.token_ids for group in experience.group_N.tolist()]


def seeing_more(experience):
    """Rows whose teacher sees one to three tokens more; every fourth is not taught."""
    prompts = [
        () if row % 4 == 3 else (*ids, *range(1, 2 + row % 3))
        for row, ids in enumerate(prompts_of(experience))
    ]
    is_taught_N = torch.tensor([bool(ids) for ids in prompts])
    return dataclasses.replace(experience, teacher_prompts=tuple(prompts), is_taught_N=is_taught_N)


def reordered(experience):
    order = torch.arange(len(experience.group_N)).view(-1, 3).flip(1).flatten()
    return dataclasses.replace(experience.rows(order), groups=experience.groups)


def test_a_copy_that_was_refreshed_before_the_step_has_no_gradient():
    experience = random_experience()
    # Given tokens keep their advantage, so there are none.
    nothing = torch.zeros_like(experience.off_policy_mask_NT)
    experience = dataclasses.replace(experience, off_policy_mask_NT=nothing)
    assert largest(gradients(experience, ADD, refreshed=True)) < 1e-14
    assert largest(gradients(experience, ADD)) > 1e-4


def test_another_teacher_is_another_gradient():
    experience = seeing_more(random_experience())
    for distillation in (ADD, SCALE):
        one, other = (gradients(experience, distillation, seed=seed) for seed in (5, 6))
        assert largest([[a - b for a, b in zip(one[0], other[0], strict=True)]]) > 1e-6


@pytest.mark.parametrize("distillation", [ADD, SCALE], ids=["add", "scale"])
def test_a_teacher_that_sees_the_plain_prompt_is_one_without_a_prompt_of_its_own(distillation):
    experience = random_experience(steps=2)
    plain = gradients(experience, distillation, steps_per_phase=2)
    same = dataclasses.replace(
        experience,
        teacher_prompts=tuple(prompts_of(experience)),
        is_taught_N=torch.ones(len(experience.group_N), dtype=torch.bool),
    )
    for step, expected in zip(gradients(same, distillation, steps_per_phase=2), plain, strict=True):
        torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-13)


def test_what_the_teacher_sees_changes_the_gradient():
    experience = random_experience()
    apart = seeing_more(experience)
    plain = dataclasses.replace(apart, teacher_prompts=None)
    one, other = gradients(apart, ADD), gradients(plain, ADD)
    assert largest([[a - b for a, b in zip(one[0], other[0], strict=True)]]) > 1e-6


@pytest.mark.parametrize("distillation", [ADD, SCALE], ids=["add", "scale"])
def test_the_gradient_does_not_depend_on_the_cut(distillation):
    experience = seeing_more(random_experience(steps=2))

    def compute(experience, micro_batch_tokens):
        return gradients(
            experience, distillation, steps_per_phase=2, micro_batch_tokens=micro_batch_tokens
        )

    whole = compute(experience, 10_000)
    assert largest(whole) > 1e-4
    for other in (
        compute(experience, 21),
        compute(padded(experience, 9), 64),
        compute(reordered(experience), 64),
    ):
        for step, expected in zip(other, whole, strict=True):
            torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-12)


def test_a_view_holds_the_policys_own_tokens_behind_other_prompts():
    experience = seeing_more(random_experience())
    view = teacher_view(experience)
    width, own_width = experience.token_ids_NL.shape[1] - 1, view.rows.token_ids_NL.shape[1] - 1
    # The token that each cell predicts is the same in both.
    there = experience.token_ids_NL[view.cells_C // width, view.cells_C % width + 1]
    here = view.rows.token_ids_NL[view.own_cells_C // own_width, view.own_cells_C % own_width + 1]
    assert torch.equal(there, here)
    assert view.rows.response_mask_NT.sum() == len(view.cells_C)
    # Three rows of each group are rollouts or taught, but for traces and every fourth row.
    assert len(view.rows.num_tokens_N) == len({cell // width for cell in view.cells_C.tolist()})
    row = int(view.cells_C[0]) // width
    prompt = view.rows.groups[0].prompt.token_ids
    assert prompt == experience.teacher_prompts[row]
    assert view.rows.token_ids_NL[0, : len(prompt)].tolist() == list(prompt)
