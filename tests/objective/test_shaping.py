import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.errors import ConfigError
from luffy_pl.registry import find

KINDS = ["identity", "p_div_p", "power", "log", "p_plus_log"]
LOGPROBS = st.floats(min_value=-30.0, max_value=0.0)


def shaping(kind: str, **fields: object):
    return find("shaping", kind, where="kind")(**fields)


def off(prob: float, **fields: object) -> float:
    log_ratio = torch.tensor(prob, dtype=torch.float64).log()
    return shaping(**fields).off_policy(log_ratio).item()


def on(prob: float, old_prob: float, **fields: object) -> float:
    logprob, old_logprob = torch.tensor([prob, old_prob], dtype=torch.float64).log()
    return shaping(**fields).on_policy(logprob, old_logprob).item()


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
    shaping("p_div_p", gamma=0.1).off_policy(log_ratio).sum().backward()
    slope = log_ratio.grad / torch.tensor([0.01, 0.9])  # d f / d r = (d f / d log r) / r
    torch.testing.assert_close(slope, torch.tensor([8.2645, 0.1]), atol=1e-4, rtol=0)


@given(logprob=LOGPROBS, old_logprob=LOGPROBS)
def test_stable_forms_equal_the_plain_ones(logprob: float, old_logprob: float):
    p, p_old, gamma = math.exp(logprob), math.exp(old_logprob), 0.3
    ours = shaping("p_div_p", gamma=gamma)
    x, y = torch.tensor([logprob, old_logprob], dtype=torch.float64)
    assert ours.off_policy(x).item() == pytest.approx(p / (p + gamma), rel=1e-9)
    expected = (p / (p + gamma)) / (p_old / (p_old + gamma))
    assert ours.on_policy(x, y).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["identity", "p_div_p", "power"])
@given(logprob=LOGPROBS)
def test_a_policy_that_has_not_moved_weighs_one(kind: str, logprob: float):
    same = torch.tensor(logprob, dtype=torch.float64)
    assert shaping(kind).on_policy(same, same).item() == pytest.approx(1.0)


def test_p_div_p_survives_extreme_ratios():
    extreme = torch.tensor([-200.0, 200.0], requires_grad=True)  # exp(200) is inf in float32
    weight = shaping("p_div_p").off_policy(extreme)
    weight.sum().backward()
    assert weight.tolist() == [0.0, 1.0]
    assert extreme.grad.tolist() == [0.0, 0.0]
    tiny = torch.tensor(-200.0)  # exp(-200) is 0 in float32: dividing f by f would be 0 / 0
    assert shaping("p_div_p").on_policy(tiny, tiny).item() == 1.0


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("p_div_p", "gamma", 0.0),
        ("p_div_p", "gamma", -0.1),
        ("p_div_p", "gamma", math.inf),
        ("p_div_p", "gamma", math.nan),
        ("clip", "ceiling", 0.0),
        ("power", "exponent", 0.0),
        ("power", "exponent", math.nan),
        ("log", "weight", -0.1),
        ("p_plus_log", "weight", math.inf),
        ("log", "weight", math.nan),
    ],
)
def test_a_value_out_of_bounds_is_named(kind: str, field: str, value: object):
    with pytest.raises(ConfigError, match=field):
        shaping(kind, **{field: value})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_gradient_everywhere(kind: str):
    log_ratio = torch.linspace(-20, 3, 50, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: shaping(kind).off_policy(x), log_ratio)
    old_logprob = torch.linspace(-5, 0, 50, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: shaping(kind).on_policy(x, old_logprob), log_ratio)
