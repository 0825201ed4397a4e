r"""Units behind a number, kept apart from it: `12\text{ cm}` is 12 and cm.

A missing unit is forgiven, a different one is not, and nothing is converted: 120 cm is not
1.2 m. The base of a number (`1010_2`) and a modulus (`7 \pmod{10}`) count as units. A word of
magnitude is part of the value (5 million), and so is any word that says more than what is counted
(5 or more). docs/verifier.md shows the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from luffy_pl.answer.clock import is_date
from luffy_pl.answer.unit_table import (
    COUNTED,
    MAGNITUDES,
    NOT_UNITS,
    POWERS,
    SPELLED,
    SYMBOL_OF,
)

PERCENT = "%"
BASE = "base"

_BASE = re.compile(
    r"\(?(?P<value>[0-9A-F]+)\)?_\{?(?:\(?(?P<base>\d{1,2})\)?"
    r"|\\text\{(?:base )?(?P<name>\w+)\})\}?"
    r"|(?P<digits>[0-9A-F]+) ?(?:\\text\{)? ?\(?(?:in )?base[ -]?\}?[ -]?(?P<spoken>\w+)\)?\}?"
)
_BASE_NAMES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_BASE_NAMES |= {"nine": 9, "ten": 10, "twelve": 12, "sixteen": 16}
_MODULUS = re.compile(r"(?P<value>.*?\S)\s*\(?\\?(?:pmod|mod)\s*\{?\s*(?P<modulus>\d+)\s*\}?\)?")
_POWER = r"(?: ?\^ ?\{? ?-?\d ?\}?)?"
_WRAPPED = re.compile(
    r"(?P<value>.*?[^\s,\\/])\s*(?P<unit>(?:(?:[/\s·(]|\\cdot|\\times)*°?(?:\\mu ?)?"
    rf"(?:\\text\{{[^{{}}]*\}}|\\Omega(?![A-Za-z])){_POWER}[)]?)+)"
)
_NUMBER = r"[-+]?(?:\d[\d.,]*|\.\d+)(?:/\d+)?"
_LETTERS = r"[A-Za-zµμΩ]+"
_COMPOUND = re.compile(
    rf"(?P<value>{_NUMBER}|.*10 ?\^ ?\{{?-?\d+\}}?) "
    rf"(?P<unit>{_LETTERS}{_POWER}(?:(?: ?/ ?| ?\\cdot ?| ){_LETTERS}{_POWER})*)"
)
_PLAIN = re.compile(
    r"(?P<value>.*[\d}).])(?P<gap>\s*)(?P<unit>[A-Za-z]{2,}[A-Za-z/ ]*(?:\^\{?[23]\}?)?)"
)
_CHINESE = re.compile(
    r"(?P<value>.*[\d}).])\s*(?:\\text\{)?\s*(?P<unit>[一-鿿]+(?:/[一-鿿]+)*)\s*\}?"
)
_CURRENCY = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<unit>\\\$|€|£|¥|₹|(?:USD|EUR|GBP|INR|CNY|RMB|Rs)\.?(?= ?\d))"
    r"\s*(?P<value>.+)"
)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_SUFFIX = re.compile(r"(?P<value>.*\S)\s*(?P<unit>°|%|\\\$|€|£|¥|₹)")
_TEMPERATURE = re.compile(r"(?P<value>.*\S)\s*° ?(?:\\text\{)?\s*(?P<scale>[CF])\s*\}?")
_WORD = re.compile(r"\^ ?\{? ?(?P<power>-?\d)|(?P<over>/|\bper\b)|(?P<name>[^\s/^{}()·\\]+)")
_NAME = re.compile(r"[^\s/^·\\]+")
_CLOCK_MARK = re.compile(
    r"\d ?(?:\\text\{)? ?(?:[ap]\.? ?m\.?\}?|noon|midnight|o ?'? ?clock)", re.IGNORECASE
)


@dataclass(frozen=True)
class Quantity:
    """A value as normalized text and its unit in one spelling; "" where there is none."""

    value: str
    unit: str


def split_unit(text: str) -> Quantity:
    """Separate a trailing (for money also a leading) unit from normalized `text`."""
    if _CLOCK_MARK.search(text) or is_date(text):
        return Quantity(text, "")
    if match := _CURRENCY.fullmatch(text):
        inner = split_unit(match["value"])
        return Quantity(match["sign"] + inner.value, spelling(match["unit"]))
    if (match := _TEMPERATURE.fullmatch(text)) is not None:
        return Quantity(match["value"], f"°{match['scale']}")
    if (match := _SUFFIX.fullmatch(text)) and not _TRIGONOMETRIC.search(text):
        return Quantity(match["value"], spelling(match["unit"]))
    if match := _BASE.fullmatch(text):
        name = match["base"] or match["name"] or match["spoken"]
        base, digits = str(_BASE_NAMES.get(name, name)), match["value"] or match["digits"]
        if _are_digits(digits, base):
            return Quantity(digits, f"{BASE} {base}")
    if match := _MODULUS.fullmatch(text):
        return Quantity(match["value"], f"mod {match['modulus']}")
    return _split_words(text)


def _are_digits(digits: str, base: str) -> bool:
    """Whether a number can be written so: `E_1` and `A_{12}` are variables."""
    is_number = len(digits) > 1 or digits.isdigit()
    return is_number and base.isdigit() and all(int(digit, 16) < int(base) for digit in digits)


def _split_words(text: str) -> Quantity:
    if match := _CHINESE.fullmatch(text):
        return _quantity(text, match["value"], *_chinese_words(match["unit"]))
    if match := _WRAPPED.fullmatch(text):
        return _quantity(text, match["value"], *_words(match["unit"]))
    match = _COMPOUND.fullmatch(text)
    if match and _is_known(match["unit"]):
        return _quantity(text, match["value"], *_words(match["unit"]))
    # Without \text only words that are no product of letters, such as `5 xy`.
    match = _PLAIN.fullmatch(text)
    if match and all(map(_is_noun, _names(match["unit"]))):
        return _quantity(text, match["value"], *_words(match["unit"]))
    return Quantity(text, "")


def _quantity(text: str, value: str, *words: str) -> Quantity:
    """The value times its words of magnitude; `text` as it is if a word is no unit."""
    rest = list(words)
    while rest and rest[0] in MAGNITUDES:
        value = f"({value})\\cdot {MAGNITUDES[rest.pop(0)]}"
    if len(rest) == 1 and rest[0] in {"squared", "cubed"}:
        return Quantity(f"({value})^{{{2 if rest[0] == 'squared' else 3}}}", "")
    if any(word in NOT_UNITS or _is_variable(word) for word in rest):
        return Quantity(text, "")
    if value.endswith("%"):
        # A 20% increase.
        return Quantity(value.removesuffix("%").strip(), PERCENT)
    return Quantity(value, spelling(" ".join(rest)))


def _is_variable(word: str) -> bool:
    r"""One letter or two that name no unit: `5\text{x}` is a product."""
    if word in SYMBOL_OF or word in POWERS:
        return False
    return word.isascii() and word.isalpha() and len(word) < 3


def spelling(unit: str) -> str:
    r"""One spelling of a unit: `m/s^2` for `m/s²`, `m s^{-2}` and `meters per second squared`."""
    powers: dict[str, int] = {}
    sign, coming, last = 1, 1, ""
    for match in _WORD.finditer(_unwrapped(unit)):
        word = (match["name"] or "").strip(".,")
        if match["over"]:
            sign = -1
        elif match["power"]:
            powers[last] = powers.get(last, 1) * int(match["power"])
        elif word in POWERS and not word.endswith("ed"):
            coming = POWERS[word]
        elif word in POWERS and last:
            powers[last] *= POWERS[word]
        else:
            last = _symbol_of(word)
            powers[last] = powers.get(last, 0) + sign * coming
            coming = 1
    above = [f"{name}{_raised(power)}" for name, power in sorted(powers.items()) if power > 0]
    below = [f"/{name}{_raised(-power)}" for name, power in sorted(powers.items()) if power < 0]
    return " ".join(above) + "".join(below)


def are_same_unit(mine: str, theirs: str) -> bool:
    """Whether two units in one spelling may mean the same: a pound is one of weight or of money."""
    return mine == theirs or {mine, theirs} in ({"pound", "lb"}, {"pound", "£"})


def is_unit(text: str) -> bool:
    r"""Whether the content of `\mathrm{...}` is a unit: every name in it is in the table."""
    names = _names(text)
    return bool(names) and all(name in SYMBOL_OF or name.lower() in SYMBOL_OF for name in names)


def _raised(power: int) -> str:
    return "" if power == 1 else f"^{power}"


def _unwrapped(unit: str) -> str:
    plain = re.sub(r"\\mu(?![A-Za-z]) ?(?:\\text)?\{? ?", " μ", unit)
    plain = plain.replace("\\Omega", "Ω ").replace("\\cdot", " ").replace("\\times", " ")
    return re.sub(r"\\text(?![A-Za-z])", " ", plain).replace("\\$", "$").replace("µ", "μ")


def _words(unit: str) -> list[str]:
    """The words of a unit in reading order, with `/` and powers as they stand."""
    plain = _unwrapped(unit).translate(str.maketrans("{}()", "    "))
    return _NAME.sub(lambda m: m[0] if m[0] in SYMBOL_OF else m[0].lower(), plain).split()


def _names(unit: str) -> list[str]:
    names = [match["name"] for match in _WORD.finditer(_unwrapped(unit)) if match["name"]]
    return [name for name in names if name not in {"of"}]


def _is_known(unit: str) -> bool:
    """Whether bare letters behind a number are a unit; one letter alone is, if it is common."""
    names = _names(unit)
    if len(names) == 1 and unit.strip() == names[0] and len(names[0]) == 1:
        return names[0] in COUNTED
    return all(name in SYMBOL_OF or name in POWERS for name in names)


def _is_noun(word: str) -> bool:
    """A word that no product of variables looks like."""
    lowered = word.lower()
    if lowered in SPELLED or lowered in MAGNITUDES or lowered in NOT_UNITS or lowered in POWERS:
        return True
    has_vowel = any(letter in "aeiou" for letter in lowered)
    return len(word) > 3 and word == lowered and has_vowel and list(word) != sorted(word)


def _symbol_of(word: str) -> str:
    word = word.strip(".,")
    for name in (word, word.lower()):
        if name in SYMBOL_OF:
            return SYMBOL_OF[name]
    word = word.lower()
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _chinese_words(unit: str) -> list[str]:
    """A leading magnitude apart from what follows it."""
    if excluded := [word for word in NOT_UNITS if not word.isascii() and word in unit]:
        return excluded
    if unit[0] in MAGNITUDES and unit.partition("/")[0] not in SYMBOL_OF:
        return [unit[0], *_chinese_words(unit[1:])] if unit[1:] else [unit[0]]
    return [unit]
