r"""The last tier: sympy, through math_verify. It runs in a worker process only (pool.py).

Two expressions are equal if they agree to 25 digits at random points where both are real:
exact where math_verify rounds to 6 digits, and much faster than simplifying. Sets, intervals
and inequalities go to `math_verify.verify`. No sympy object is ever printed: that can hang.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

from luffy_pl.reward.answer.compare import compare_answers, compare_values_cheaply
from luffy_pl.reward.answer.leaves import rational_of
from luffy_pl.reward.answer.normalize import ROW_BREAK
from luffy_pl.reward.answer.tolerance import Tolerance, ValueComparison

TIMEOUT_S = 2
"""Seconds for one parse or comparison. An integer: signal.alarm takes no fraction."""

_DIGITS = 40
_TOLERANCE = 1e-25
_ZERO = 1e-60
_POINTS = 8
_DECIMAL = re.compile(r"(?<![\d_\\])(?<!_\{)(\d*)\.(\d+)(?![\d.]*\\overline)")


def compare_symbolically(answer: str, gold: str, tolerance: Tolerance = Tolerance()) -> bool:  # noqa: B008
    """Whether two raw answers are equal.

    Raises:
        TimeoutError: a parse or comparison took longer than `TIMEOUT_S`.
        MemoryError: it needed more than a worker may have.
    """
    from math_verify.errors import TimeoutException

    try:
        compare = ValueComparison(partial(_compare_values, tolerance=tolerance), tolerance)
        return compare_answers(answer, gold, compare) is True
    except TimeoutException:
        # math_verify's own is no Exception and may carry the text; ours crosses processes.
        raise TimeoutError from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (sympy raises anything on text that is no mathematics)
        return False


def _compare_values(answer: str, gold: str, *, tolerance: Tolerance) -> bool | None:
    cheap = compare_values_cheaply(answer, gold, tolerance=tolerance)
    # A gold against itself is to be read, not merely repeated.
    if cheap is False or (cheap and answer != gold):
        return cheap
    mine, theirs = _parse(answer), _parse(gold)
    if mine is None or theirs is None:
        return False
    from math_verify.utils import timeout

    if tolerance.allows_rounding(gold) and _is_expression(mine):
        return timeout(TIMEOUT_S)(partial(_is_rounded, mine, gold, tolerance))()
    return timeout(TIMEOUT_S)(partial(_are_equal, mine, theirs))()


def _is_rounded(mine: Any, gold: str, tolerance: Tolerance) -> bool:
    value, wanted = _value(mine, {}), rational_of(gold)
    if value is None or not isinstance(wanted, Fraction) or abs(value.imag) >= _ZERO:
        return False
    return tolerance.is_rounded(Fraction(str(value.real)), wanted)


@lru_cache(maxsize=1024)  # all answers of a group share one gold
def _parse(value: str) -> Any:
    """The sympy object of normalized LaTeX, None if math_verify cannot read it."""
    from math_verify import LatexExtractionConfig, parse

    latex = _DECIMAL.sub(_as_fraction, value).replace("°", r"\cdot\frac{\pi}{180}")
    parsed = parse(
        rf"\boxed{{{latex.replace(ROW_BREAK, chr(92) * 2)}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=TIMEOUT_S,
        raise_on_error=True,
    )
    return _with_imaginary_unit(parsed[0]) if parsed else None


def _as_fraction(match: re.Match[str]) -> str:
    """0.25 as 25/100: a float would be equal to whatever is near."""
    whole, decimals = match.groups()
    return rf"\frac{{{int(whole + decimals)}}}{{1{'0' * len(decimals)}}}"


def _with_imaginary_unit(expression: Any) -> Any:
    import sympy

    symbols = {s: sympy.I for s in getattr(expression, "free_symbols", ()) if s.name == "i"}
    return expression.subs(symbols) if symbols else expression


def _are_equal(mine: Any, theirs: Any) -> bool:
    import sympy
    from math_verify import verify

    if all(isinstance(side, sympy.Eq) for side in (mine, theirs)):
        return _are_same_equation(mine.lhs - mine.rhs, theirs.lhs - theirs.rhs)
    if all(_is_expression(side) for side in (mine, theirs)):
        decided = _agree_at_points(mine, theirs)
        if decided is not None:
            return decided
    return bool(
        verify(
            theirs,
            mine,
            allow_set_relation_comp=True,
            timeout_seconds=TIMEOUT_S,
            raise_on_error=True,
        )
    )


def _is_expression(side: Any) -> bool:
    import sympy

    return isinstance(side, sympy.Expr) and not isinstance(side, sympy.MatrixExpr)


def _agree_at_points(mine: Any, theirs: Any) -> bool | None:
    """Compare values where both are real, or as complex numbers if they nowhere are."""
    import sympy

    is_complex = any(side.has(sympy.I) for side in (mine, theirs))
    found_real, complex_pairs = False, []
    for pair in _values(mine, theirs):
        if is_complex or all(abs(value.imag) < _ZERO for value in pair):
            found_real = True
            if not _are_close(*pair):
                return False
        else:
            complex_pairs.append(pair)
    if found_real:
        return True
    return all(_are_close(*pair) for pair in complex_pairs) if complex_pairs else None


def _are_same_equation(mine: Any, theirs: Any) -> bool:
    """Left minus right side differ by a constant factor."""
    pairs = list(_values(mine, theirs))
    if not pairs or all(abs(value) < _ZERO for pair in pairs for value in pair):
        return False
    first, second = pairs[0]
    if abs(first) < _ZERO or abs(second) < _ZERO:
        return False
    return all(_are_close(one * second, other * first) for one, other in pairs)


def _values(mine: Any, theirs: Any) -> Iterator[tuple[Any, Any]]:
    """Both expressions at `_POINTS` random points where both have a finite value."""
    symbols = sorted(mine.free_symbols | theirs.free_symbols, key=lambda symbol: symbol.name)
    for point in _points(sorted({symbol.name for symbol in symbols})):
        at = {symbol: point[symbol.name] for symbol in symbols}
        pair = (_value(mine, at), _value(theirs, at))
        if None not in pair:
            yield pair


def _points(names: list[str]) -> Iterator[dict[str, Any]]:
    """Rational points, the same in every process; positive first, then of either sign."""
    import sympy

    generator = random.Random(0)
    for number in range(_POINTS if names else 1):
        signs = (1,) if number < _POINTS // 2 else (1, -1)
        yield {
            name: sympy.Rational(generator.choice(signs) * generator.randint(1, 97), 31)
            for name in names
        }


def _value(expression: Any, at: dict[Any, Any]) -> Any:
    """An mpmath number, None if the expression has no finite one here."""
    import mpmath  # type: ignore[import-untyped]

    value = expression.doit().subs(at).evalf(_DIGITS)
    real, imaginary = value.as_real_imag()
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    with mpmath.workdps(_DIGITS):
        return mpmath.mpc(str(real), str(imaginary))


def _are_close(first: Any, second: Any) -> bool:
    import mpmath

    with mpmath.workdps(_DIGITS):
        scale = max(abs(first), abs(second))
        return bool(scale < _ZERO or abs(first - second) <= _TOLERANCE * scale)
