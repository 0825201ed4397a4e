"""The factor of a schedule, phase by phase."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.errors import ConfigError
from luffy_pl.objective.schedule import Schedule
from luffy_pl.objective.settings import SftConfig

PHASES = st.integers(0, 20)


@pytest.mark.parametrize(
    ("schedule", "by_hand"),
    [
        (Schedule(), [1, 1, 1]),
        (Schedule(warmup_phases=4), [0, 0.25, 0.5, 0.75, 1, 1]),
        (Schedule(decay_phases=4, shape="linear"), [1, 0.75, 0.5, 0.25, 0, 0]),
        (Schedule(decay_phases=2, shape="linear", floor=0.2), [1, 0.6, 0.2, 0.2]),
        # (1 + cos(pi t / 4)) / 2; the root of 2 is 1.41421.
        (Schedule(decay_phases=4), [1, 0.853553, 0.5, 0.146447, 0, 0]),
        (Schedule(2, 2, "cosine", 0.1), [0, 0.5, 1, 0.55, 0.1, 0.1]),
    ],
)
def test_by_hand(schedule, by_hand):
    found = [schedule.factor(phase) for phase in range(len(by_hand))]
    assert found == pytest.approx(by_hand, abs=1e-6)


@given(PHASES, PHASES, st.sampled_from(["cosine", "linear"]), st.floats(0, 1), st.integers(0, 99))
def test_it_rises_then_falls_to_the_floor(warmup, decay, shape, floor, phase):
    schedule = Schedule(warmup, decay, shape, floor)
    now, after = schedule.factor(phase), schedule.factor(phase + 1)
    assert 0 <= now <= 1
    assert after >= now - 1e-9 if phase < warmup else after <= now + 1e-9
    assert schedule.factor(warmup) == 1
    assert schedule.factor(warmup + decay) == pytest.approx(floor if decay else 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("warmup_phases", -1), ("decay_phases", -1), ("floor", 1.5), ("floor", float("nan"))],
)
def test_bounds(field, value):
    with pytest.raises(ConfigError, match=rf"^model\.objective\.sft\.schedule\.{field}: must be"):
        SftConfig(schedule=Schedule(**{field: value}))
