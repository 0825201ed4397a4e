"""The names of units: symbols by every way to write them."""

from __future__ import annotations

_SI = {
    "m": "meter metre", "g": "gram gramme", "s": "second sec", "A": "ampere amp", "K": "kelvin",
    "mol": "mole", "N": "newton", "J": "joule", "W": "watt", "Pa": "pascal", "Hz": "hertz",
    "C": "coulomb", "V": "volt", "F": "farad", "T": "tesla", "H": "henry", "Wb": "weber",
    "l": "liter litre", "eV": "electronvolt electron-volt", "cal": "calorie", "bar": "bar",
    "Ω": "ohm", "B": "byte", "Wh": "watt-hour", "t": "ton tonne", "lm": "lumen", "lx": "lux",
}  # fmt: skip
_PREFIXES = {
    "k": "kilo", "c": "centi", "m": "milli", "M": "mega", "G": "giga", "μ": "micro", "n": "nano",
    "p": "pico", "d": "deci", "h": "hecto", "T": "tera",
}  # fmt: skip
_OTHERS = {
    "°": "° degree degrees deg 度", "$": r"$ dollar dollars usd 美元",
    "€": "€ euro euros eur 欧元", "£": "£ gbp", "pound": "pound pounds",
    "¥": "¥ yuan rmb cny 元 圆", "₹": "₹ rupee rupees inr rs", "%": "% percent pct percentage",
    "c": "cent cents",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "lb": "lb lbs", "oz": "oz ounce ounces", "min": "min mins minute minutes 分钟 分",
    "h": "h hr hrs hour hours 小时 时", "d": "day days 天 日", "w": "week weeks 周",
    "mo": "month months 月 个月", "y": "yr yrs year years 年", "rad": "rad radian radians",
    "sr": "sr steradian steradians", "erg": "erg ergs", "dyn": "dyn dyne dynes",
    "atm": "atm atmosphere atmospheres", "mmHg": "mmHg", "torr": "torr", "psi": "psi",
    "gal": "gal gallon gallons", "ha": "ha hectare hectares", "acre": "acre acres",
    "Å": "Å angstrom angstroms", "u": "u amu", "au": "au AU", "ly": "ly", "pc": "pc parsec parsecs",
    "rpm": "rpm", "G": "gauss", "dB": "dB decibel decibels", "M": "molar", "mi/h": "mph",
    "km/h": "kmh kph", "m": "米", "km": "千米 公里", "cm": "厘米", "mm": "毫米", "dm": "分米",
    "kg": "公斤 千克", "g": "克", "t": "吨", "s": "秒", "ml": "毫升", "l": "升 L", "jin": "斤",
    "°C": "℃ 摄氏度", "m^2": "平方米", "cm^2": "平方厘米", "km^2": "平方千米 平方公里",
    "m^3": "立方米", "cm^3": "立方厘米",
    # What only counts says nothing that the question did not.
    "count": "个 只 人 名 位 头 匹 条 张 本 件 辆 棵 朵 支 枝 次 种 块 颗 双 对 组 套 台 艘 架 页"
    " 岁 枚 根",
}  # fmt: skip


def _names() -> dict[str, str]:
    found: dict[str, str] = {}
    for symbol, names in _SI.items():
        for prefix, long_prefix in [("", ""), *_PREFIXES.items()]:
            found[prefix + symbol] = prefix + symbol
            for name in names.split():
                found[long_prefix + name] = found[f"{long_prefix}{name}s"] = prefix + symbol
    for symbol, names in _OTHERS.items():
        found |= dict.fromkeys(names.split(), symbol)
    return found


SYMBOL_OF = _names()
"""The symbol by any name; symbols in their own case, other names in lower case."""
_SHORT_NAMES = """
    mm cm km dm kg ml cl in inch ft foot feet yd mi lb lbs oz min mins hr hrs yr yrs sec mph kmh
    kph deg usd eur gbp rmb day days week year cent cents pct ton tons amp amps cup cups man men
    boy boys egg eggs car cars box boxes pen pens cat cats dog dogs bag bags way ways old
"""
SPELLED = frozenset(_SHORT_NAMES.split()) | {
    name for name in SYMBOL_OF if len(name) > 3 and name == name.lower()
}
"""Names that are units also in plain letters: no product of variables."""
COUNTED = frozenset("mgshlL")
"""Single letters that are units behind a plain number and a space: `12 m`."""
POWERS = {"sq": 2, "square": 2, "squared": 2, "cubic": 3, "cubed": 3, "cu": 3}
MAGNITUDES = {
    **{name: f"10^{{{power}}}" for names, power in (
        ("hundred hundreds 百", 2), ("thousand thousands 千", 3), ("万", 4),
        ("million millions mln", 6), ("亿", 8), ("billion billions", 9),
        ("trillion trillions", 12), ("quadrillion quadrillions", 15), ("lakh lakhs", 5),
        ("crore crores", 7), ("tenths", -1), ("hundredths", -2), ("thousandths", -3),
        ("millionths", -6), ("billionths", -9),
    ) for name in names.split()},
    "dozen": "12", "dozens": "12", "gross": "144",
    **{name: rf"\frac{{1}}{{{value}}}" for value, name in enumerate(
        ("halves", "thirds", "quarters", "fifths", "sixths", "sevenths", "eighths", "ninths"), 2)},
    "fourths": r"\frac{1}{4}",
}  # fmt: skip
_NOT_UNITS = """
    or and more less than at least most fewer over under above below up down plus minus not only
    but half third quarter fourth fifth sixth seventh eighth ninth tenth hundredth thousandth
    double doubled twice triple tripled thrice quadruple quadrupled wrong false negative positive
    if when where unless except nor neither out to until through between factorial choose root
    exactly never almost bce infinite infinity 或 以上 以下 至少 至多 多 余 分之
"""
NOT_UNITS = frozenset(_NOT_UNITS.split())
"""Words that say another value, or none."""
