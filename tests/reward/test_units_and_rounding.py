import pytest

from luffy_pl.answer.compare import compare_cheaply
from luffy_pl.answer.symbolic import compare_symbolically
from luffy_pl.answer.tolerance import Tolerance
from luffy_pl.reward.math_verifier import MathVerifier

IGNORE = Tolerance(units="ignore")
THREE = Tolerance(rounding=3)


@pytest.mark.parametrize(
    ("answer", "gold", "matching", "ignoring"),
    [
        (r"12\text{ cm}", r"12\text{ m}", False, True),
        (r"12\text{ cm}^2", r"12\text{ cm}", False, True),
        ("12", r"12\text{ m}", True, True),
        (r"13\text{ cm}", r"12\text{ m}", False, False),
        (r"120\text{ cm}", r"1.2\text{ m}", False, False),  # nothing is converted
        (r"50\%", "0.5", True, True),
        ("1010_3", "1010_2", False, False),  # a base is no unit
        (r"(3\text{ m}, 4\text{ m})", r"(3\text{ cm}, 4\text{ cm})", False, True),
    ],
)
def test_units(answer, gold, matching, ignoring):
    assert compare_cheaply(answer, gold).equal is matching
    assert compare_cheaply(answer, gold, IGNORE).equal is ignoring


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("3.14", "3.14159", True),  # half a unit of the third digit is 0.005
        ("3.145", "3.14", True),
        ("3.1451", "3.14", False),
        ("22/7", "3.14", True),
        ("3.1", "3.14", False),
        ("0.0314", "0.03141", True),
        ("0.0320", "0.0314", False),
        ("-3.14", "3.14", False),
        ("1000.4", "999.9", True),  # half a unit of the third digit of 999.9 is 0.5
        ("1000.5", "999.9", False),
        ("0.001", "0.0", False),
        (r"3.141\text{ cm}", r"3.14\text{ cm}", True),
        (r"3.14\text{ cm}", r"3.14\text{ m}", False),
        ("(3.141, 2)", "(3.14, 2)", True),
        # Only a decimal may be a rounding.
        ("3.001", "3", False),
        ("0.333", r"\frac13", False),
        ("0.333333", "1/3", False),
    ],
)
def test_rounding_of_numbers(answer, gold, equal):
    assert compare_cheaply(answer, gold, THREE).equal is equal
    assert compare_cheaply(answer, gold).equal in {False, answer == gold}


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        (r"\pi", "3.14", True),
        (r"\sqrt2", "1.41", True),
        (r"\sqrt2", "1.42", False),
        ("3.14", r"\pi", False),
        (r"3.14i", "3.14", False),
        ("x", "3.14", False),
    ],
)
def test_rounding_of_expressions(answer, gold, equal):
    assert compare_symbolically(answer, gold, THREE) is equal
    assert not compare_symbolically(answer, gold)


def test_the_policy_reaches_the_workers():
    items = [(r"\boxed{\pi}", "3.14"), (r"\boxed{2\sqrt3\text{ m}}", r"\sqrt{12}\text{ cm}")]
    tolerance = Tolerance(units="ignore", rounding=3)
    with MathVerifier(think_end=None, workers=1, tolerance=tolerance) as verifier:
        assert [verdict.correct for verdict in verifier.grade(items)] == [True, True]
    with MathVerifier(think_end=None, workers=1) as verifier:
        assert [verdict.correct for verdict in verifier.grade(items)] == [False, False]
