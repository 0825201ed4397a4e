r"""One expression in normalized LaTeX as a sympy object.

A recursive descent over the tokens, which says itself what LaTeX leaves open:

- Letters are variables, each by its own name: `R` is not `r`, `x'` is not `x`, `\gamma` is no
  constant. `e` and `i` are the constants.
- Factors that stand together bind closer than `/`: `1/2x` is 1/(2x).
- A function without brackets takes the factors that stand together behind it, up to an operator,
  another function or a power of e: `\sin 2x\cos x`, `\ln 2 \cdot 3`, `\sin t\,e^{-t}`. The angle of
  a trigonometric function may be a fraction of \pi: `\sin \pi/6`.

sympy is imported here, so only a worker imports this module. Nothing is evaluated that is larger
than `MAX_BITS`: it stays as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import sympy
from sympy.core.function import UndefinedFunction

from luffy_pl.answer.rational import read_rational

MAX_BITS = 1 << 20
"""Largest power of integers that is multiplied out."""
MAX_COUNT = 20_000
"""Largest factorial and binomial coefficient that is multiplied out."""
MAX_DEPTH = 100

_TOKEN = re.compile(
    r"\s*(?P<token>\d*\.\d*\\overline\{\d+\}|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4}(?![\d.]))?"
    r"|\\text\{[A-Za-z]+\}|\\[A-Za-z]+|\\.|'+|!+|\S)"
)
_GREEK_NAMES = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
    rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi
    Sigma Upsilon Phi Psi Omega ell hbar
"""
_GREEK = frozenset(_GREEK_NAMES.split())
_ACCENTS = frozenset(["\\bar", "\\tilde", "\\dot", "\\ddot", "\\overline", "\\widetilde"])
_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    **{f"\\{name}": getattr(sympy, name) for name in _TRIGONOMETRIC},
    **{f"\\arc{name}": getattr(sympy, f"a{name}") for name in _TRIGONOMETRIC},
    **{f"\\{name}": getattr(sympy, name) for name in ("sinh", "cosh", "tanh", "coth")},
    **{f"\\arc{name}": getattr(sympy, f"a{name}") for name in ("sinh", "cosh", "tanh")},
    "\\ln": sympy.log,
    "\\exp": sympy.exp,
    "\\Gamma": sympy.gamma,
}
_OF_SEVERAL: dict[str, Callable[..., sympy.Expr]] = {
    "\\max": sympy.Max,
    "\\min": sympy.Min,
    "\\gcd": sympy.gcd,
}
_UNKNOWN_FUNCTIONS = frozenset("fg")
_BRACKETS = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}
_ROUNDINGS = {"\\lfloor": ("\\rfloor", sympy.floor), "\\lceil": ("\\rceil", sympy.ceiling)}
_BARS = frozenset(["|", "\\vert", "\\lvert", "\\rvert", "\\mid"])
_TIMES, _OVER = frozenset(["\\cdot", "\\times", "\\ast"]), frozenset(["/", "\\div", ":"])
_ENDS = frozenset([*_TIMES, *_OVER, *_BRACKETS.values(), "", "+", "-", "^", "_", ",", "\\rfloor",
                   "\\rceil", "'", "!", "°", "%"])  # fmt: skip


class Unreadable(Exception):
    """The text is no expression of this grammar."""


def read_expression(text: str) -> sympy.Expr:
    """The expression that normalized `text` writes.

    Raises:
        Unreadable: it writes none.
    """
    parser = _Parser([match["token"] for match in _TOKEN.finditer(text)])
    value = parser.sum()
    if parser.peek():
        raise Unreadable(text)
    return value


class _Parser:
    """One method per level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.open_bars = 0

    def peek(self, ahead: int = 0) -> str:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Unreadable(token)

    def sum(self) -> sympy.Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("depth")
        value = self.quotient()
        while self.peek() in {"+", "-"}:
            sign = self.take()
            term = self.quotient()
            value = value + term if sign == "+" else value - term
        self.depth -= 1
        return value

    def quotient(self) -> sympy.Expr:
        value = self.signed()
        while self.peek() in _TIMES | _OVER:
            operator = self.take()
            factor = self.signed()
            value = value * factor if operator in _TIMES else value / factor
        return value

    def signed(self) -> sympy.Expr:
        if self.peek() in {"+", "-"}:
            sign = self.take()
            value = self.signed()
            return -value if sign == "-" else value
        return self.product()

    def product(self) -> sympy.Expr:
        """Factors that stand together."""
        value = self.factor()
        while self.starts_factor():
            if self.peek()[0].isdigit() and self.tokens[self.position - 1][-1:].isdigit():
                raise Unreadable("two numbers in a row")
            value = value * self.factor()
        return value

    def starts_factor(self) -> bool:
        token = self.peek()
        return token not in _ENDS and not (token in _BARS and self.open_bars)

    def factor(self) -> sympy.Expr:
        return self.with_suffixes(self.atom())

    def with_suffixes(self, value: sympy.Expr) -> sympy.Expr:
        while True:
            token = self.peek()
            if token == "^":
                self.take()
                value = _power(value, self.exponent())
            elif token and not token.strip("!"):
                value = _factorial(value, len(self.take()))
            elif token == "°":
                self.take()
                value = value * sympy.pi / 180
            elif token == "%":
                self.take()
                value = value / 100
            else:
                return value

    def exponent(self) -> sympy.Expr:
        if self.peek() in {"+", "-"}:
            return -self.exponent() if self.take() == "-" else self.exponent()
        return self.atom()

    def atom(self) -> sympy.Expr:
        token = self.take()
        if token[:1].isdigit() or (token[:1] == "." and len(token) > 1):
            return self.number(token)
        if token in _BRACKETS:
            return self.enclosed(_BRACKETS[token])
        if token in _BARS:
            return self.absolute()
        if token in _ROUNDINGS:
            end, function = _ROUNDINGS[token]
            return function(self.enclosed(end))
        if token in {"\\frac", "\\binom"}:
            above, below = self.group(), self.group()
            return above / below if token == "\\frac" else _binomial(above, below)
        if token == "\\sqrt":
            return self.root()
        if token in _OF_SEVERAL:
            return _OF_SEVERAL[token](*self.arguments())
        is_called = token == "\\Gamma" and self.peek() == "("
        if token == "\\log" or (token in _FUNCTIONS and (is_called or token != "\\Gamma")):
            return self.function(token)
        return self.symbol(token)

    def number(self, token: str) -> sympy.Expr:
        value = read_rational(token)
        if value is None or self.peek() == "_":
            raise Unreadable(token)
        return sympy.Rational(value.numerator, value.denominator)

    def enclosed(self, end: str) -> sympy.Expr:
        bars, self.open_bars = self.open_bars, 0
        value = self.sum()
        self.expect(end)
        self.open_bars = bars
        return value

    def absolute(self) -> sympy.Expr:
        self.open_bars += 1
        value = self.sum()
        if self.take() not in _BARS:
            raise Unreadable("|")
        self.open_bars -= 1
        return sympy.Abs(value)

    def group(self) -> sympy.Expr:
        self.expect("{")
        return self.enclosed("}")

    def root(self) -> sympy.Expr:
        degree: sympy.Expr = sympy.Integer(2)
        if self.peek() == "[":
            self.take()
            degree = self.enclosed("]")
        return _root(self.group() if self.peek() == "{" else self.atom(), degree)

    def arguments(self) -> list[sympy.Expr]:
        end = _BRACKETS.get(self.take())
        values = [self.sum()]
        while self.peek() == ",":
            self.take()
            values.append(self.sum())
        if end is None:
            raise Unreadable("arguments")
        self.expect(end)
        return values

    def function(self, token: str) -> sympy.Expr:
        power: sympy.Expr = sympy.Integer(1)
        base = sympy.Integer(10)
        while self.peek() in {"^", "_"}:
            if self.take() == "^":
                power = self.exponent()
            else:
                base = self.exponent()
        if power == -1 and token[1:] in _TRIGONOMETRIC:
            token, power = f"\\arc{token[1:]}", sympy.Integer(1)
        argument = self.argument(token)
        value = sympy.log(argument, base) if token == "\\log" else _FUNCTIONS[token](argument)
        return _power(value, power)

    def argument(self, function: str) -> sympy.Expr:
        """What a function is applied to."""
        if self.peek() in {"(", "[", "{"} or self.peek() in _BARS:
            token = self.take()
            return self.absolute() if token in _BARS else self.enclosed(_BRACKETS[token])
        if self.peek() in {"+", "-"}:
            return -self.argument(function) if self.take() == "-" else self.argument(function)
        if self.peek() in _FUNCTIONS or self.peek() == "\\log":
            return self.factor()
        value = self.factor()
        while self.belongs_to_argument(value, function):
            value = value * self.factor()
        if function[1:] in _TRIGONOMETRIC and (value / sympy.pi).is_Rational:
            while self.peek() == "/" and self.peek(1).isdigit():
                self.take()
                value = value / self.factor()
        return value

    def belongs_to_argument(self, before: sympy.Expr, function: str) -> bool:
        token = self.peek()
        if not self.starts_factor() or token in _FUNCTIONS or token in {"\\log", *_OF_SEVERAL}:
            return False
        if token == "e" or (token in _UNKNOWN_FUNCTIONS and self.peek(1) == "("):
            return False
        if token in {"\\sqrt", "\\frac", "\\binom"}:
            return bool(before.is_number)
        if token in _BRACKETS or token in _BARS:
            return bool(before.is_Rational) and function[1:] in _TRIGONOMETRIC
        return True

    def symbol(self, token: str) -> sympy.Expr:
        name = self.name_of(token)
        if self.peek() == "_":
            self.take()
            name += f"_{{{self.subscript()}}}"
        primes = self.take() if self.peek()[:1] == "'" else ""
        if token in _UNKNOWN_FUNCTIONS and self.peek() == "(":
            return UndefinedFunction(name + primes)(*self.arguments())
        if name == token and not primes:
            constant = {"e": sympy.E, "i": sympy.I, "\\pi": sympy.pi}.get(token)
            if constant is not None:
                return constant
        return sympy.Symbol(name + primes)

    def name_of(self, token: str) -> str:
        if (token.isascii() and token.isalpha() and len(token) == 1) or token == "\\pi":
            return token
        if token.startswith("\\text{"):
            return token[6:-1]
        if token in _ACCENTS:
            return f"{token}{{{self.subscript()}}}"
        if token[1:] in _GREEK and token[:1] == "\\":
            return token
        raise Unreadable(token)

    def subscript(self) -> str:
        """The text of an index or under an accent, as it stands."""
        if self.peek() != "{":
            return self.take()
        self.take()
        depth, tokens = 1, []
        while depth:
            token = self.take()
            if not token:
                raise Unreadable("{")
            depth += {"{": 1, "}": -1}.get(token, 0)
            tokens.append(token)
        return "".join(tokens[:-1])


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    if base.is_Rational and exponent.is_Rational:
        size = max(int(base.p).bit_length(), int(base.q).bit_length())
        if abs(exponent) * size > MAX_BITS:
            return sympy.Pow(base, exponent, evaluate=False)
    return sympy.Pow(base, exponent)


def _root(value: sympy.Expr, degree: sympy.Expr) -> sympy.Expr:
    """An odd root of a negative number is negative, as in school."""
    if degree.is_Integer and degree.is_odd and value.is_number and value.is_negative:
        return -_power(-value, 1 / degree)
    return _power(value, 1 / degree)


def _factorial(value: sympy.Expr, marks: int) -> sympy.Expr:
    if marks > 2:
        raise Unreadable("!!!")
    function = sympy.factorial if marks == 1 else sympy.factorial2
    is_large = value.is_Integer and int(value) > MAX_COUNT
    return function(value, evaluate=not is_large)


def _binomial(above: sympy.Expr, below: sympy.Expr) -> sympy.Expr:
    is_large = above.is_Integer and abs(int(above)) > MAX_COUNT
    return sympy.binomial(above, below, evaluate=not is_large)
