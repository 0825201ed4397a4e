# ruff: noqa: RUF001 (signs that look like others are the subject)
import pytest

from luffy_pl.answer.normalize import normalize
from luffy_pl.answer.units import Quantity, split_unit


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$5$", "5"),
        (r"\(5\)", "5"),
        (r"\[ 5 \].", "5"),
        ("−5", "-5"),
        ("５", "5"),
        ("½", r"\frac{1}{2}"),
        ("x²", "x^{2}"),
        ("√2", r"\sqrt{2}"),
        (r"4\sqrt(x+(1))", r"4\sqrt{x+(1)}"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\dfrac1{12}", r"\frac{1}{12}"),
        (r"2\frac12", r"(2+\frac{1}{2})"),
        ("2 1/2", r"(2+\frac{1}{2})"),
        (r"2\frac{3}{2}", r"2\frac{3}{2}"),  # a product
        (r"x^2\frac12", r"x^2\frac{1}{2}"),  # a product
        (r"1{,}234", "1234"),
        (r"1\,234\,567", "1234567"),
        (r"\left(1,2\right)", "(1,2)"),
        (r"\mathrm{e}", "e"),
        (r"\mathrm{cm}", r"\text{cm}"),
        (r"\textbf{(C)}", r"\text{(C)}"),
        (r"\boxed{5}", "5"),
        (r"\varnothing", r"\emptyset"),
        (r"90^{\circ}", "90°"),
        ("2**3", "2^3"),
        (r"1.5 x 10^3", r"1.5\times 10^3"),
        (r"\begin{aligned}x&=1\\y&=2\end{aligned}", "x=1, y=2"),
        ("a\x00b\u200e", "a b"),
        (r"\(2π\)", r"2\pi"),
    ],
)
def test_one_spelling(text, plain):
    assert normalize(text) == plain


@pytest.mark.parametrize(
    "text", [r"2\frac12", r"\text{ cm}^2", r"\sqrt[3]{2}", r"1\\ 2", "½", r"x \le 3", "{}", "\\"]
)
def test_normalizing_twice_changes_nothing(text):
    assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (r"12\text{ cm}", "12", "cm"),
        (r"12 \text{ square centimeters}", "12", "cm^2"),
        (r"12\text{ cm}^2", "12", "cm^2"),
        (r"10\text{ m/s}", "10", "m/s"),
        ("5 hours", "5", "h"),
        ("12.5%", "12.5", "%"),
        (r"\$12.50", "12.50", "$"),
        (r"-\$3", "-3", "$"),
        ("12 dollars", "12", "$"),
        ("30°", "30", "°"),
        ("1010_2", "1010", "base 2"),
        ("5 xy", "5 xy", ""),
        ("a_2", "a_2", ""),
        (r"\sin 30°", r"\sin 30°", ""),
    ],
)
def test_units_are_kept_apart(text, value, unit):
    assert split_unit(text) == Quantity(value, unit)
