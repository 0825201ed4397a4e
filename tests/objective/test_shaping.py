import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.objective.shaping import Shaping, shape_off_policy, shape_on_policy

KINDS = ["identity", "p_div_p", "power", "log", "p_plus_log"]
LOGPROBS = st.floats(min_value=-30.0, max_value=0.0)


def off(prob: float, **fields: object) -> float:
    log_ratio = torch.tensor(prob, dtype=torch.float64).log()
    return shape_off_policy(log_ratio, Shaping(**fields)).item()


def on(prob: float, old_prob: float, **fields: object) -> float:
    logprob, old_logprob = torch.tensor([prob, old_prob], dtype=torch.float64).log()
    return shape_on_policy(logprob, old_logprob, Shaping(**fields)).item()


def test_off_policy_weights_by_hand():
    assert off(0.25, kind="identity") == pytest.approx(0.25)
    assert off(0.25, kind="p_div_p", gamma=0.25) == pytest.approx(0.5)  # 0.25 / 0.5
    assert off(0.25, kind="p_div_p", gamma=1.0) == pytest.approx(0.2)  # 0.25 / 1.25
    assert off(0.25, kind="power", exponent=0.5) == pytest.approx(0.5)
    assert off(0.25, kind="power", exponent=1.5) == pytest.approx(0.125)
    assert off(0.25, kind="log", weight=0.5) == pytest.approx(-math.log(2))  # 0.5 * log(1/4)
    assert off(0.25, kind="p_plus_log", weight=0.5) == pytest.approx(0.25 - math.log(2))


def test_on_policy_weights_by_hand():
    # ratio 0.5 / 0.25 = 2 throughout
    assert on(0.5, 0.25, kind="identity") == pytest.approx(2.0)
    # (0.5 / 0.75) / (0.25 / 0.5) = (2/3) / (1/2); f(ratio) would be 2 / 2.25
    assert on(0.5, 0.25, kind="p_div_p", gamma=0.25) == pytest.approx(4 / 3)
    assert on(0.5, 0.25, kind="power", exponent=2.0) == pytest.approx(4.0)
    assert on(0.5, 0.25, kind="log", weight=0.1) == pytest.approx(math.log(2))  # no weight
    assert on(0.5, 0.25, kind="p_plus_log", weight=0.5) == pytest.approx(2 + 0.5 * math.log(2))


def test_the_slope_of_p_div_p_is_that_of_the_docstring():
    log_ratio = torch.tensor([0.01, 0.9]).log().requires_grad_()
    shape_off_policy(log_ratio, Shaping(kind="p_div_p", gamma=0.1)).sum().backward()
    slope = log_ratio.grad / torch.tensor([0.01, 0.9])  # d f / d r = (d f / d log r) / r
    torch.testing.assert_close(slope, torch.tensor([8.2645, 0.1]), atol=1e-4, rtol=0)


@given(logprob=LOGPROBS, old_logprob=LOGPROBS)
def test_stable_forms_equal_the_plain_ones(logprob: float, old_logprob: float):
    p, p_old, gamma = math.exp(logprob), math.exp(old_logprob), 0.3
    shaping = Shaping(kind="p_div_p", gamma=gamma)
    x, y = torch.tensor([logprob, old_logprob], dtype=torch.float64)
    assert shape_off_policy(x, shaping).item() == pytest.approx(p / (p + gamma), rel=1e-9)
    expected = (p / (p + gamma)) / (p_old / (p_old + gamma))
    assert shape_on_policy(x, y, shaping).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["identity", "p_div_p", "power"])
@given(logprob=LOGPROBS)
def test_a_policy_that_has_not_moved_weighs_one(kind: str, logprob: float):
    same = torch.tensor(logprob, dtype=torch.float64)
    assert shape_on_policy(same, same, Shaping(kind=kind)).item() == pytest.approx(1.0)


def test_p_div_p_survives_extreme_ratios():
    extreme = torch.tensor([-200.0, 200.0], requires_grad=True)  # exp(200) is inf in float32
    weight = shape_off_policy(extreme, Shaping(kind="p_div_p"))
    weight.sum().backward()
    assert weight.tolist() == [0.0, 1.0]
    assert extreme.grad.tolist() == [0.0, 0.0]
    tiny = torch.tensor(-200.0)  # exp(-200) is 0 in float32: dividing f by f would be 0 / 0
    assert shape_on_policy(tiny, tiny, Shaping(kind="p_div_p")).item() == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "sqrt"),
        ("gamma", 0.0),
        ("gamma", -0.1),
        ("gamma", math.inf),
        ("gamma", math.nan),
        ("exponent", 0.0),
        ("exponent", math.nan),
        ("weight", -0.1),
        ("weight", math.inf),
        ("weight", math.nan),
    ],
)
def test_a_value_out_of_bounds_is_named(field: str, value: object):
    with pytest.raises(ValueError, match=field):
        Shaping(**{field: value})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_gradient_everywhere(kind: str):
    log_ratio = torch.linspace(-20, 3, 50, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: shape_off_policy(x, Shaping(kind=kind)), log_ratio)
    old_logprob = torch.linspace(-5, 0, 50, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda x: shape_on_policy(x, old_logprob, Shaping(kind=kind)), log_ratio
    )
