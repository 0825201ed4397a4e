r"""The last tier: sympy. It runs in a worker process only (pool.py).

Two expressions are equal if their difference is zero (exact.py), with variables: at `_POINTS`
random rational points where both are real. Sets and inequalities go to math_verify, which reads
them with the names and the functions of its own grammar. No sympy object is ever printed: that can
hang.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

from luffy_pl.answer.compare import compare_answers, compare_values_cheaply
from luffy_pl.answer.leaves import rational_of
from luffy_pl.answer.normalize import ROW_BREAK
from luffy_pl.answer.tolerance import Tolerance, ValueComparison

TIMEOUT_S = 2
"""Seconds of this process's own time for one comparison: a busy machine takes none of them."""

_DIGITS = 40
_POINTS = 8
_DECIMAL = re.compile(r"(?<![\d_\\])(?<!_\{)(\d*)\.(\d+)(?![\d.]*\\overline)")
_BEYOND_EXPRESSIONS = re.compile(
    r"[<>,;\[\]|]|\\(?:le|ge|ne|in|cup|cap|setminus|subset\w*|infty|emptyset|mathbb|\{|begin"
    r"|i{0,2}int|oint|sum|prod|lim|det|to)(?![A-Za-z])"
)
"""What the grammar of expression.py does not know."""
_EQUATION = re.compile(r"[^=<>]+=[^=<>]+")


def compare_symbolically(answer: str, gold: str, tolerance: Tolerance = Tolerance()) -> bool:  # noqa: B008
    """Whether two raw answers are equal.

    Raises:
        TimeoutError: a parse or comparison took longer than `TIMEOUT_S`.
        MemoryError: it needed more than a worker may have.
    """
    try:
        compare = ValueComparison(partial(_compare_values, tolerance=tolerance), tolerance)
        return compare_answers(answer, gold, compare) is True
    except _OutOfTime:
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
    with _time_limit(TIMEOUT_S):
        return _compare_read(answer, gold, tolerance)


class _OutOfTime(BaseException):
    """No Exception: sympy catches those."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTime` after so many seconds of this process; for the main thread."""

    def stop(number: int, frame: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _compare_read(answer: str, gold: str, tolerance: Tolerance) -> bool:
    theirs = _parse(gold)
    mine = _parse(answer) if theirs is not None else None
    if mine is None or theirs is None:
        return False
    if tolerance.allows_rounding(gold) and _is_expression(mine):
        return _is_rounded(mine, gold, tolerance)
    return _are_equal(mine, theirs)


def _is_rounded(mine: Any, gold: str, tolerance: Tolerance) -> bool:
    from luffy_pl.answer.exact import measure

    wanted, number = rational_of(gold), measure(mine)
    if number is None or not number.is_real or not isinstance(wanted, Fraction):
        return False
    return tolerance.is_rounded(Fraction(str(mine.evalf(_DIGITS).as_real_imag()[0])), wanted)


@lru_cache(maxsize=1024)  # all answers of a group share one gold
def _parse(value: str) -> Any:
    """The sympy object of normalized LaTeX, None if it cannot be read."""
    import sympy

    from luffy_pl.answer.expression import Unreadable, read_expression

    try:
        if _EQUATION.fullmatch(value):
            left, right = map(read_expression, value.split("="))
            return sympy.Eq(left, right, evaluate=False)
        return read_expression(value)
    except Unreadable:
        return _parse_others(value) if _BEYOND_EXPRESSIONS.search(value) else None


def _parse_others(value: str) -> Any:
    """Sets, inequalities, sums and integrals, by the grammar of math_verify."""
    from latex2sympy2_extended.latex2sympy2 import (  # type: ignore[import-untyped]
        ConversionConfig,
        NormalizationConfig,
        latex2sympy,
    )

    latex = _DECIMAL.sub(_as_fraction, value).replace("°", r"\cdot\frac{\pi}{180}")
    latex = latex.replace(ROW_BREAK, "\\\\")
    if "'" in latex:
        return None  # it drops the prime
    parsed = latex2sympy(
        latex,
        normalization_config=NormalizationConfig(malformed_operators=True, boxed="none"),
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    return _with_constants(parsed)


def _as_fraction(match: re.Match[str]) -> str:
    """0.25 as 25/100: a float would be equal to whatever is near."""
    whole, decimals = match.groups()
    return rf"\frac{{{int(whole + decimals)}}}{{1{'0' * len(decimals)}}}"


def _with_constants(expression: Any) -> Any:
    import sympy

    constants = {"i": sympy.I, "e": sympy.E}
    free = getattr(expression, "free_symbols", ())
    symbols = {s: constants[s.name] for s in free if s.name in constants}
    return expression.subs(symbols) if symbols else expression


def _are_equal(mine: Any, theirs: Any) -> bool:
    import sympy
    from math_verify import verify

    if all(isinstance(side, sympy.Eq) for side in (mine, theirs)):
        return _are_same_equation(mine.lhs - mine.rhs, theirs.lhs - theirs.rhs)
    if all(_is_expression(side) for side in (mine, theirs)):
        return _agree_at_points(mine, theirs) is True
    return bool(
        verify(
            theirs,
            mine,
            float_rounding=_DIGITS,
            numeric_precision=_DIGITS,
            allow_set_relation_comp=True,
            timeout_seconds=None,  # ours is running
            raise_on_error=True,
        )
    )


def _is_expression(side: Any) -> bool:
    import sympy

    return isinstance(side, sympy.Expr) and not isinstance(side, sympy.MatrixExpr)


def _agree_at_points(mine: Any, theirs: Any) -> bool | None:
    """Compare values where both are real, or as complex numbers if they nowhere are."""
    import sympy

    from luffy_pl.answer.exact import measure

    if mine - theirs == 0:
        return True
    is_complex = any(side.has(sympy.I) for side in (mine, theirs))
    found_real, complex_verdicts = False, []
    for one, other in _values(mine, theirs):
        difference = measure(one - other)
        if difference is None:
            continue
        sides = (measure(one), measure(other))
        if is_complex or all(side is not None and side.is_real for side in sides):
            found_real = True
            if not difference.is_zero:
                return False
        else:
            complex_verdicts.append(difference.is_zero)
    if found_real:
        return True
    return all(complex_verdicts) if complex_verdicts else None


def _are_same_equation(mine: Any, theirs: Any) -> bool:
    """Left minus right side differ by a constant factor."""
    from luffy_pl.answer.exact import measure

    pairs = list(_values(mine, theirs))
    if not pairs:
        return False
    first, second = pairs[0]
    if any(number is None or number.is_zero for number in map(measure, (first, second))):
        return False
    crossed = [measure(one * second - other * first) for one, other in pairs]
    return all(number is not None and number.is_zero for number in crossed)


def _values(mine: Any, theirs: Any) -> Iterator[tuple[Any, Any]]:
    """Both expressions at `_POINTS` random points where both have a finite value."""
    from luffy_pl.answer.exact import measure

    both = [_calculated(side) for side in (mine, theirs)]
    symbols = sorted(both[0].free_symbols | both[1].free_symbols, key=lambda symbol: symbol.name)
    for point in _points(sorted({symbol.name for symbol in symbols})):
        at = {symbol: point[symbol.name] for symbol in symbols}
        pair = [_with_function_values(side.xreplace(at)) for side in both]
        if all(measure(value) is not None for value in pair):
            yield pair[0], pair[1]


def _calculated(side: Any) -> Any:
    """Sums, products, integrals and limits carried out."""
    import sympy

    unfinished = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
    return side.doit() if side.has(*unfinished) else side


def _with_function_values(side: Any) -> Any:
    """A random number for each value of an unknown function, the same for the same argument."""
    import sympy
    from sympy.core.function import AppliedUndef

    def value_of(applied: Any) -> Any:
        generator = random.Random(f"{applied.func.__name__}{applied.args}")
        return sympy.Rational(generator.randint(1, 97), 31)

    return side.replace(lambda part: isinstance(part, AppliedUndef), value_of)


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
