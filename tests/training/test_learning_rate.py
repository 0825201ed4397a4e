"""The learning rate of each optimizer, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.errors import ConfigError
from luffy_pl.run.composition import compose
from luffy_pl.training.optimizer import LearningRate, learning_rates
from luffy_pl.training.settings import (
    LearningRateSchedule,
    OptimizerConfig,
    SftOptimizerConfig,
)


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "by_hand"),
    [
        (LearningRateSchedule(), 0, [1, 1, 1]),
        (LearningRateSchedule(), 4, [0.25, 0.5, 0.75, 1, 1]),
        (LearningRateSchedule("linear", 4), 0, [1, 0.75, 0.5, 0.25, 0, 0]),
        (LearningRateSchedule("linear", 2, 0.2), 2, [0.5, 1, 1, 0.6, 0.2, 0.2]),
        # (1 + cos(pi t / 4)) / 2
        (LearningRateSchedule("cosine", 4), 0, [1, 0.853553, 0.5, 0.146447, 0]),
        # Of six steps two are the warm-up, and the fall takes the other four.
        (LearningRateSchedule("linear"), 2, [0.5, 1, 1, 0.75, 0.5, 0.25, 0]),
    ],
)
def test_by_hand(schedule, warmup_steps, by_hand):
    rate = LearningRate(0.1, warmup_steps, schedule, planned_steps=6)
    found = [rate.factor(step) for step in range(len(by_hand))]
    assert found == pytest.approx(by_hand, abs=1e-6)


@given(
    kind=st.sampled_from(["constant", "linear", "cosine"]),
    warmup_steps=st.integers(0, 9),
    planned_steps=st.integers(0, 20),
    floor=st.floats(0, 1),
)
def test_it_rises_then_falls_and_never_below_the_floor(kind, warmup_steps, planned_steps, floor):
    rate = LearningRate(1.0, warmup_steps, LearningRateSchedule(kind, None, floor), planned_steps)
    factors = [rate.factor(step) for step in range(40)]
    risen, falling = factors[:warmup_steps], factors[warmup_steps:]
    assert risen == sorted(risen)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 1
    assert min(falling) == pytest.approx(1 if kind == "constant" else floor)


def test_each_optimizer_counts_its_own_steps():
    cosine = LearningRateSchedule("cosine")
    config = OptimizerConfig(
        lr=0.1, steps_per_phase=2, warmup_steps=3, sft=SftOptimizerConfig(0.2, schedule=cosine)
    )
    policy, imitation = learning_rates(config, num_phases=10, sft_phases=4)
    assert (policy.peak, policy.warmup_steps, policy.planned_steps) == (0.1, 3, 12)
    assert (imitation.peak, imitation.warmup_steps, imitation.planned_steps) == (0.2, 3, 8)
    assert (policy.schedule.kind, imitation.schedule) == ("constant", cosine)
    own = SftOptimizerConfig(0.2, warmup_steps=0)
    assert learning_rates(OptimizerConfig(sft=own), num_phases=2)[1].warmup_steps == 0
    # One optimizer for all takes the steps of all phases.
    [only] = learning_rates(OptimizerConfig(steps_per_phase=2), num_phases=10, sft_phases=4)
    assert only.planned_steps == 20


def test_an_unknown_number_of_steps_is_refused():
    relift = ["fit", "--config", "conf/quickstart.yaml", "--config", "conf/recipe/relift.yaml"]
    for name in ("optimizer", "optimizer.sft"):
        falls = f"--model.{name}.schedule.kind=cosine"
        with pytest.raises(ConfigError, match=f"{name}.schedule.decay_steps: is not set"):
            compose([*relift, falls])
        compose([*relift, falls, f"--model.{name}.schedule.decay_steps=9"])
