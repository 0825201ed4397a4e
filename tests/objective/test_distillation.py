"""What a teacher adds to the advantage of a token, by hand and by its properties."""

import math
from dataclasses import replace

import pytest
import torch

from luffy_pl.errors import ConfigError
from luffy_pl.objective.distillation import reward_part, with_teacher
from luffy_pl.objective.gate import PpoClip
from luffy_pl.objective.metrics import mean, teacher_pairs
from luffy_pl.objective.normalize import count_terms
from luffy_pl.objective.schedule import Schedule
from luffy_pl.objective.settings import (
    DistillationConfig,
    EntropyConfig,
    NormalizerConfig,
    ObjectiveConfig,
    OnPolicyConfig,
)
from luffy_pl.objective.terms import OptimizerStep, active_terms, micro_batch_loss
from luffy_pl.objective.tokens import Tokens

NEW = torch.tensor([[-0.5, -1.0, 0.0], [-0.7, -0.2, -2.0], [-0.1, 0.0, 0.0]], dtype=torch.double)
OLD = torch.tensor([[-0.6, -1.0, 0.0], [-0.5, -0.3, -2.0], [-0.2, 0.0, 0.0]], dtype=torch.double)
TEACHER = torch.tensor(
    [[-0.2, -1.5, 9.0], [-0.9, -0.1, -1.0], [-3.0, math.nan, 9.0]], dtype=torch.double
)
MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
ADVANTAGE = torch.tensor([1.0, -0.5, 0.25], dtype=torch.double)


def tokens(**changes):
    """A right row, a wrong one, and one that the teacher does not score."""
    return replace(
        Tokens(
            logprob_NT=NEW.clone().requires_grad_(),
            old_logprob_NT=OLD,
            entropy_NT=torch.zeros_like(NEW),
            behaviour_logprob_NT=torch.zeros_like(NEW),
            advantage_N=ADVANTAGE,
            response_mask_NT=MASK,
            off_policy_mask_NT=torch.zeros_like(MASK),
            in_policy_N=torch.ones(3, dtype=torch.bool),
            in_imitation_N=torch.ones(3, dtype=torch.bool),
            teacher_logprob_NT=TEACHER,
            is_taught_N=torch.tensor([True, True, False]),
        ),
        **changes,
    )


def objective(distillation, *, clip=None):
    return ObjectiveConfig(
        on_policy=OnPolicyConfig(gate=None if clip is None else PpoClip(clip, clip)),
        normalizer=NormalizerConfig(mode="token"),
        entropy=EntropyConfig(coef=0.0),
        distillation=distillation,
    )


def loss_and_gradient(config, found=None, *, clip=None, phase=0):
    found = tokens() if found is None else found
    settings = objective(config, clip=clip)
    terms = active_terms(settings, phase, entropy_coef=0.0, kl_coef=0.0, foreign={})
    counts = count_terms(found, [0, 1, 2], settings)
    totals = {name: count.double() for name, count in counts.items()}
    step = OptimizerStep(settings, terms, totals, max_response_tokens=3, phase=phase)
    loss, _ = micro_batch_loss(found, step)
    return loss.item(), torch.autograd.grad(loss, found.logprob_NT)[0]


def test_add_by_hand():
    # Six tokens learn from their reward, the five of taught rows from the teacher as well.
    ratio = (NEW - OLD).exp().tolist()
    gap = (TEACHER - OLD).tolist()
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]
    by_reward = -sum(ADVANTAGE[n].item() * ratio[n][t] for n, t in places) / 6
    by_teacher = -sum(gap[n][t] * ratio[n][t] for n, t in places[:5]) / 5
    loss, gradient = loss_and_gradient(DistillationConfig(coef=0.5))
    assert loss == pytest.approx(by_reward + 0.5 * by_teacher, abs=1e-12)
    wanted = -(1.0 / 6 + 0.5 * 0.4 / 5) * ratio[0][0]
    assert gradient[0, 0].item() == pytest.approx(wanted, abs=1e-12)
    assert not gradient[~MASK].any()
    loss, _ = loss_and_gradient(DistillationConfig(coef=0.5, with_reward=False))
    assert loss == pytest.approx(0.5 * by_teacher, abs=1e-12)


def test_a_clip_in_nats_bounds_what_a_token_is_credited_with():
    loss, _ = loss_and_gradient(DistillationConfig(clip=0.3, with_reward=False))
    ratio, gap = (NEW - OLD).exp(), (TEACHER - OLD).clamp(-0.3, 0.3)
    assert loss == pytest.approx(-(ratio * gap)[:2][MASK[:2]].sum().item() / 5, abs=1e-12)


def test_scale_by_hand():
    # Where w would leave [0.8, 1.2] it is clipped; the third row keeps its advantage.
    config = DistillationConfig(mode="scale", coef=0.5, clip=0.2)
    w = [[1.2, 0.8], [1.2, math.exp(-0.2)], [0.0, 0.0]]
    found = reward_part(tokens(), config, 0)
    assert found[0, 0].item() == pytest.approx(1.0 * (0.5 + 0.5 * w[0][0]))
    assert found[0, 1].item() == pytest.approx(1.0 * (0.5 + 0.5 * w[0][1]))
    assert found[1, 0].item() == pytest.approx(-0.5 * (0.5 + 0.5 * w[1][0]))
    assert found[1, 1].item() == pytest.approx(-0.5 * (0.5 + 0.5 * w[1][1]))
    assert found[1, 2].item() == pytest.approx(-0.5 * (0.5 + 0.5 * 0.8))
    assert found[2].tolist() == [0.25] * 3


def test_scale_with_lambda_0_is_grpo():
    plain = loss_and_gradient(None)
    for config, phase in (
        (DistillationConfig(mode="scale", coef=0.0, clip=0.2), 0),
        (DistillationConfig(mode="scale", schedule=Schedule(decay_phases=5, shape="linear")), 5),
    ):
        found = loss_and_gradient(config, phase=phase)
        assert found[0] == plain[0]
        assert torch.equal(found[1], plain[1])


def test_a_teacher_that_agrees_adds_nothing():
    loss, gradient = loss_and_gradient(
        DistillationConfig(with_reward=False), tokens(teacher_logprob_NT=OLD)
    )
    assert loss == 0
    assert not gradient.any()


def test_a_group_of_equal_rewards_keeps_the_signal_of_its_teacher():
    equal = tokens(advantage_N=torch.zeros(3).double())
    _, gradient = loss_and_gradient(DistillationConfig(), equal)
    assert gradient[:2][MASK[:2]].abs().min() > 0
    assert not gradient[2].any()  # nobody teaches that row
    _, scaled = loss_and_gradient(DistillationConfig(mode="scale"), equal)
    assert not scaled.any()


def test_a_clip_of_the_ratio_looks_at_reward_and_teacher_together():
    # A ratio of 1.11 above the clip of 0.05: the sign of the sum decides whether it is clipped.
    disagrees = tokens(teacher_logprob_NT=torch.full_like(OLD, -2.6))
    _, gradient = loss_and_gradient(DistillationConfig(), disagrees, clip=0.05)
    assert gradient[0, 0].abs() > 0  # 1 - 2 is below 0
    _, gradient = loss_and_gradient(None, disagrees, clip=0.05)
    assert gradient[0, 0] == 0


def test_given_tokens_keep_their_advantage():
    given = torch.zeros_like(MASK)
    given[1] = MASK[1]
    found = with_teacher(
        tokens(off_policy_mask_NT=given), objective(DistillationConfig(with_reward=False)), 0
    )
    assert found.advantage_NT[1].tolist() == [-0.5] * 3
    assert found.advantage_NT[0, 0].item() == pytest.approx(0.4)
    assert count_terms(found, [0, 1, 2], objective(None))["taught_tokens"] == 2


def test_a_phase_that_only_imitates_needs_no_teacher():
    imitated = tokens(in_policy_N=torch.zeros(3, dtype=torch.bool), teacher_logprob_NT=None)
    loss, gradient = loss_and_gradient(DistillationConfig(), imitated)
    assert loss == 0
    assert not gradient.any()
    with pytest.raises(ValueError, match="needs log-probabilities of the teacher"):
        loss_and_gradient(DistillationConfig(), tokens(teacher_logprob_NT=None))


def test_metrics_count_what_is_taught():
    found = {name: mean(pair).item() for name, pair in teacher_pairs(tokens()).items()}
    gap = (TEACHER - OLD)[:2][MASK[:2]].mean().item()
    assert found == {"teacher_gap": pytest.approx(gap), "taught_rows": pytest.approx(2 / 3)}
    assert teacher_pairs(tokens(teacher_logprob_NT=None)) == {}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": "scale", "coef": 1.5}, "distillation.coef: must be at most 1 with mode: scale"),
        ({"mode": "scale", "with_reward": False}, "with_reward: leaves nothing to be scaled"),
        ({"coef": math.nan}, "distillation.coef: must be at least 0"),
        ({"clip": 0.0}, "distillation.clip: must be above 0"),
    ],
)
def test_wrong_settings(fields, said):
    with pytest.raises(ConfigError) as raised:
        DistillationConfig(**fields)
    assert said in str(raised.value)
