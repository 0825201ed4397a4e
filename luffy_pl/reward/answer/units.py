r"""Units behind a number, kept apart from it: `12\text{ cm}` is 12 and cm.

A missing unit is forgiven, a different one is not, and nothing is converted: 120 cm is not
1.2 m. The base of a number (`1010_2`) and a modulus (`7 \pmod{10}`) count as units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PERCENT = "%"
BASE = "base"

_NAMES = {
    "°": "° degree degrees deg", "$": r"\$ dollar dollars usd", "€": "€ euro euros eur",
    "£": "£ pound pounds gbp", PERCENT: "% percent", "c": "cent cents",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms",
    "lb": "lb lbs", "oz": "oz ounce ounces", "ml": "ml milliliter milliliters",
    "l": "l liter liters litre litres", "s": "s sec secs second seconds",
    "min": "min mins minute minutes", "h": "h hr hrs hour hours", "d": "day days",
    "w": "week weeks", "mo": "month months", "y": "yr yrs year years", "mph": "mph",
    "rad": "rad radian radians",
}  # fmt: skip
_SYMBOL_OF = {name: symbol for symbol, names in _NAMES.items() for name in names.split()}
_POWER_OF = {"sq": "^2", "square": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}

_BASE = re.compile(
    r"(?P<value>[0-9A-F]+)_\{?(?:(?P<base>\d{1,2})|\\text\{(?P<base_name>[a-z]+)\})\}?"
)
_BASE_NAMES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_BASE_NAMES |= {"nine": 9, "ten": 10, "twelve": 12, "sixteen": 16}
_MODULUS = re.compile(r"(?P<value>.*?\S)\s*\(?\\?(?:pmod|mod)\s*\{?\s*(?P<modulus>\d+)\s*\}?\)?")
_WRAPPED = re.compile(
    r"(?P<value>.*[^\s,\\])\s*(?P<unit>(?:[/\s]*\\text\{[^{}]*\}\s*(?:\^\s*\{?[23]\}?)?)+)"
)
_PLAIN = re.compile(r"(?P<value>.*[\d}).])\s*(?P<unit>[A-Za-z]{2,}[A-Za-z/ ]*(?:\^\{?[23]\}?)?)")
_CURRENCY = re.compile(r"(?P<sign>[-+]?)\s*(?P<unit>\\\$|€|£)\s*(?P<value>.+)")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_SUFFIX = re.compile(r"(?P<value>.*\S)\s*(?P<unit>°|%|\\\$|€|£)")


@dataclass(frozen=True)
class Quantity:
    """A value as normalized text and its unit in one spelling; "" where there is none."""

    value: str
    unit: str


def split_unit(text: str) -> Quantity:
    """Separate a trailing (for money also a leading) unit from normalized `text`."""
    if match := _CURRENCY.fullmatch(text):
        return Quantity(match["sign"] + match["value"], _spelling(match["unit"]))
    if (match := _SUFFIX.fullmatch(text)) and not _TRIGONOMETRIC.search(text):
        return Quantity(match["value"], _spelling(match["unit"]))
    if match := _BASE.fullmatch(text):
        base = match["base"] or _BASE_NAMES.get(match["base_name"], match["base_name"])
        return Quantity(match["value"], f"{BASE} {base}")
    if match := _MODULUS.fullmatch(text):
        return Quantity(match["value"], f"mod {match['modulus']}")
    if match := _WRAPPED.fullmatch(text):
        return Quantity(match["value"], _spelling(match["unit"]))
    # Without \text only known units: `5 xy` is a product.
    match = _PLAIN.fullmatch(text)
    if match and _words(match["unit"])[0] in _SYMBOL_OF.keys() | _POWER_OF.keys():
        return Quantity(match["value"], _spelling(match["unit"]))
    return Quantity(text, "")


def _words(unit: str) -> list[str]:
    plain = unit.replace("\\text", " ").translate(str.maketrans("{}.", "   ")).lower()
    return re.findall(r"\^ ?[23]|/|[^\s/^]+", plain) or [""]


def _spelling(unit: str) -> str:
    symbols, power = [], ""
    for word in _words(unit):
        if word in _POWER_OF:
            power = _POWER_OF[word]
        elif word == "per":
            symbols.append("/")
        else:
            symbols.append(_SYMBOL_OF.get(word, word.replace(" ", "")))
    return "".join(symbols) + power
