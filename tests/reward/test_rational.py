import time
from fractions import Fraction

import pytest

from luffy_pl.answer.rational import read_rational


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0.0", 0),
        ("007", 7),
        (".5", Fraction(1, 2)),
        ("1/3", Fraction(1, 3)),
        ("1:3", Fraction(1, 3)),
        (r"\frac{1}{2^{99}}", Fraction(1, 2**99)),
        (r"(2+\frac{1}{2})", Fraction(5, 2)),
        ("1.5e3", 1500),
        (r"1.5\times 10^{-3}", Fraction(3, 2000)),
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^3^2", 512),
        ("5!", 120),
        (r"\binom{10}{3}", 120),
        (r"\sqrt{\frac{4}{9}}", Fraction(2, 3)),
        ("2(3+4)", 14),
        ("1-2-3", -4),
        ("8/4/2", 1),
    ],
)
def test_exact_values(text, value):
    assert read_rational(text) == value


NOT_RATIONAL = [
    "",
    "x",
    r"\pi",
    r"\sqrt{2}",
    r"\sqrt{-4}",
    "2^{0.5}",
    "1 2",
    "2+",
    "(2",
    "2)",
    "--",
]
TOO_LARGE = [
    "1e9999",
    "9" * 4001,
    "2^{99999}",
    "9^{9^{9}}",
    "999999!",
    "(" * 300,
    "1^" * 5000 + "1",
]


@pytest.mark.parametrize("text", NOT_RATIONAL + TOO_LARGE)
def test_anything_else_is_left_alone(text):
    start = time.process_time()
    assert read_rational(text) is None
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("text", [r"\frac{1}{0}", "1/0", "0^{-1}", r"\frac{0}{1-1}"])
def test_a_division_by_zero_is_no_value(text):
    with pytest.raises(ZeroDivisionError):
        read_rational(text)
