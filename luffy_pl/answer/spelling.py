r"""What people write around and instead of plain LaTeX, before and after `normalize`.

Before: runs of superscripts (`10⁻¹²`), upright units (`\mathrm{m/s^2}`), old font switches,
`{n \choose k}`, repeating decimals, dots. After: words in front of a value (`The area is 12`),
digit groups inside braces (`\sqrt{1,234}`), degrees and minutes, ratios in words, conditions that
only name the range of a variable (`f(x)=2x, x\in\mathbb{R}`).

Apart from normalize.py, which the released graders share, and which therefore stays as it is.
"""

# ruff: noqa: RUF001 (signs that look like others are the subject)
from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from luffy_pl.answer.compound import in_first_unit
from luffy_pl.answer.normalize import normalize
from luffy_pl.answer.number_words import with_digits
from luffy_pl.answer.units import is_unit

_BRACES = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_UPRIGHT = re.compile(rf"\\(?:mathrm|textrm|mathsf|operatorname|rm)(?![A-Za-z])\s*{_BRACES}")
_BEHIND_NUMBER = re.compile(
    r"(?:[\d})%°]|\\circ|℃)"
    r"(?:\s|\\[,;:! ]|~|/|\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\\mu(?![A-Za-z]))*$"
)
_UNIT = r"\\(?:text|textrm|mathrm|rm)\s*\{([^{}]{1,12})\}"
_DOTS = r"\\(?:[lc]?dots[cbmio]?)(?![A-Za-z])|\.{3,}|…"

_COMMANDS = "d?frac|sqrt|left|right|leq?|geq?|text|pi|infty|cup|cap|cdot|times|pm|in"
"""Commands whose backslash may be doubled, as in JSON that was escaped twice."""
# What must be in a text for a rewrite to do anything, the pattern, what it becomes.
_BEFORE: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (needle, re.compile(pattern), replacement)
    for needle, pattern, replacement in (
        ("\\\\", rf"(?<!\\)\\\\(?=(?:{_COMMANDS})(?![A-Za-z]))", r"\\"),
        ("\\'", r"\\'", "'"),
        ("\\prime", r"\^ ?(?:\{ ?((?:\\prime ?)+)\}|(\\prime)(?![A-Za-z]))", r" \1\2 "),
        ("\\prime", r"\s*\\prime(?![A-Za-z])\s*", "'"),
        ("dots", _DOTS, r"\\ldots "),
        ("..", _DOTS, r"\\ldots "),
        ("…", _DOTS, r"\\ldots "),
        ("frac", r"\\(?:nice|s)frac(?![A-Za-z])", r"\\frac"),
        ("binom", r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        ("choose", r"\{\s*([^{}]+?)\s*\\choose(?![A-Za-z])\s*([^{}]+?)\s*\}", r"\\binom{\1}{\2}"),
        ("\\under", r"\\underline\s*\{([^{}]*)\}", r"\1"),
        ("{\\", r"\{\s*\\(bf|rm|it|sf|tt)\s+([^{}\\]*)\}", r"\\text\1{\2}"),
        ("\\", r"\\(?:bf|it|sf|tt)(?![A-Za-z{])\s*", ""),
        ("\\dot", r"\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", r"\\overline{\1\2\3}"),
        ("\\", r"(?<=[.\d])\\(?:dot|bar)\s*(?:\{(\d+)\}|(\d))", r"\\overline{\1\2}"),
        (".", r"(\d*\.\d*)\((\d+)\)", r"\1\\overline{\2}"),
        ("\\ldots", r"(\.\d*?)(\d)\2{2,}\s*\\ldots", r"\1\\overline{\2}"),
        ("\\n", r"\\ne(?:q|)(?![A-Za-z])|\\not\s*=", r"\\ne "),
        ("!=", r"(?<=[A-Za-z)}\s])!=", r"\\ne "),
        ("\\!", r"(?<=\d),\\!\s*(?=\d{3})", ""),
        ("infinity", r"\\text\s*\{\s*(?:positive )?infinity\s*\}", r"\\infty "),
        (
            "real",
            r"\\text\s*\{\s*(?:all |the set of (?:all )?)?real(?:s| numbers?)\s*\}",
            r"\\mathbb{R}",
        ),
        ("\\mathbb", r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}"),
        ("\\mathbb", r"\\mathbb\{R\}(?:\^|_)(?:\+|\{\+\}|\{>\s*0\})", r"(0,\\infty)"),
        ("\\frac", rf"\\[dt]?frac\s*\{{\s*{_UNIT}\s*\}}\s*\{{\s*{_UNIT}\s*\}}", r"\\mathrm{\1/\2}"),
        ("\\text", r"\\text\s*\{\s*(?:°|\^\\circ)\s*([CF])\s*\}", r"°\\text{\1}"),
        ("times", r"\\text\s*\{\s*times\s*\}(?=\s*\d)", r"\\times "),
        ("\\text", r"^\s*\\text\s*\{\s*(?:negative|minus)\s*\}\s*(?=[\d.\\])", "-"),
        ("\\pounds", r"\\pounds(?![A-Za-z])", "£"),
        ("{:}", r"\{:\}", ":"),
        ("=", r"^\s*=\s*", ""),
        ("", r"^\s*(?:\\sim|\\approx|\\simeq|~|≈|∼)(?![A-Za-z])\s*", ""),
        ("m", r"\b([ap])\.?\s?m\.", r"\1m"),
    )
)
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_LABEL_STOPS = re.compile(
    r"\b(?:not|no|never|at|least|most|more|less|fewer|greater|larger|smaller|than|between|minus|plus"
    r"|negative|over|under|above|below|before|after|half|twice|double|thrice|except|excluding|from"
    r"|to|up|if|when|or|and|either|neither|per|without|mod|base)\b|[\d<>=+*/^-]",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\\text\{([^{}]*)\}\s*[:=]?\s*(?=[-+\d\\(\[.A-Za-z$])(?!\\text|\\cup|\\cap|\\in)"
)
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_COUNTED = re.compile(r"([-+]?\d[\d,.]*(?:/\d+)?) ?([^\W\d_].*)")
_MACRO_BRACES = re.compile(r"(\\(?:frac|sqrt|binom)|[\^}])(\{[^{}]*\d,\d{3}[^{}]*\})")
_GROUP = re.compile(r"(?<![\d,.])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_ARC = re.compile(
    r"(?P<sign>-?)(?P<degrees>\d+) ?° ?(?P<minutes>\d+(?:\.\d+)?) ?'"
    r"(?: ?(?P<seconds>\d+(?:\.\d+)?) ?(?:''|\"))?"
)
_RATIO_IN_WORDS = re.compile(r"(\d+(?:\.\d+)?) (?:to|\\text\{ ?to ?\}) (\d+(?:\.\d+)?)")
_SHARE_IN_WORDS = re.compile(r"(\d+) ?\\text\{ ?(?:out of|in) ?(?:\} ?(?=\d+$))?(\d+)\}?")
_RANGE = (
    r"[A-Za-z](?:_\{?\w\}?)?(?: ?, ?[A-Za-z])* ?\\in ?"
    r"(?:\\mathbb ?\{ ?\w ?\}|[ZRNQC])(?:[\^_](?:\{[^{}]*\}|\\?[\w*+]+ ?))?"
)
_RULE = re.compile(rf"\\\{{ ?([^:|,]{{2,120}}?) ?(?::|\||\\mid(?![A-Za-z])) ?({_RANGE}) ?\\\}}")
_QUALIFIER = re.compile(
    r"(?:\\text\{ ?,? ?(?:for|where|with|provided) ?[^{}]*\}.*"
    r"|,? ?(?:\\text\{ ?,? ?)?for (?:all|any|every|each|some) .*"
    r"|[,;( ] ?(?:\\text\{ ?(?:for|where|with) ?(?:all|any|every)? ?\} ?)?"
    rf"(?:\\forall ?)?{_RANGE} ?\)?"
    r"|,? ?\(? ?\\forall .*|,? where .*"
    r"|[,;] ?(?P<bound>[A-Za-z]) ?(?:\\ne|>|<|\\ge|\\le) ?[^,;<>=]*"
    r"|[,;( ] ?[A-Za-z] ?\\text\{ ?(?:is |are )?(?:an? |any )?"
    r"(?:positive |nonnegative |non-negative |natural )?(?:integer|real|natural|number)s?[^{}]*\}"
    r" ?\)?"
    r"|,? ?\( ?[A-Za-z] ?(?:\\ne|>|<|\\ge|\\le) ?[^(),]* ?\))$"
)


_MAY_QUALIFY = re.compile(
    r"\\(?:in|forall|ne|le|ge)(?![A-Za-z])|[<>]"
    r"|for |where|with|provided|integer|real|natural|number"
)


@lru_cache(maxsize=4096)
def spell(text: str) -> str:
    """`text` in its plainest spelling; the same answer written twice gives the same string."""
    if _PLAIN_NUMBER.fullmatch(text):
        return text
    text = _join_scripts(text)
    for needle, pattern, replacement in _BEFORE:
        if needle in text:
            text = pattern.sub(replacement, text)
    text = normalize(_UPRIGHT.sub(_unit_as_text, text) if "\\" in text else text)
    if text.startswith("\\text"):
        text = _without_label(_unwrapped_text(text))
    text = with_digits(text)
    if "," in text and "{" in text:
        text = _MACRO_BRACES.sub(lambda m: m[1] + _GROUP.sub(_joined, m[2]), text)
    if match := _RATIO_IN_WORDS.fullmatch(text):
        text = f"{match[1]}:{match[2]}"
    if match := _RULE.fullmatch(text):
        text = f"{match[1]}, {match[2]}"
    if match := _SHARE_IN_WORDS.fullmatch(text):
        text = rf"\frac{{{match[1]}}}{{{match[2]}}}"
    text = in_first_unit(text)
    if match := _ARC.fullmatch(text):
        text = _decimal_degrees(match)
    return text


def without_qualifier(text: str) -> tuple[str, str]:
    r"""`n\pi` and `n\in\mathbb{Z}` of `n\pi, n\in\mathbb{Z}`; the second is "" without a condition.

    Only behind something that is neither an inequality nor an interval: there it would say more.
    """
    match = _QUALIFIER.search(text) if _MAY_QUALIFY.search(text) else None
    if match is None or match.start() == 0:
        return text, ""
    rest = text[: match.start()].strip(" ,;:")
    # y = x^2, x > 0: a bound of the variable that an equation is about, and no second condition.
    if match["bound"] and match["bound"] not in re.sub(r"\\[A-Za-z]+", "", rest).partition("=")[2]:
        return text, ""
    if not re.search(r"[A-Za-z]", rest) or re.search(
        r"[<>\[\]]|\\(?:le|ge|ne|in|cup)(?![A-Za-z])", rest
    ):
        return text, ""
    ranged = re.search(r"\\in ?(.*?)\)?$", match[0])
    return rest, re.sub(r"[\s{}()]|\\mathbb", "", ranged[1]) if ranged else ""


def _join_scripts(text: str) -> str:
    """Superscript characters that stand together are one exponent: 10²³."""
    if text.isascii():
        return text
    joined, kind_before = [], ""
    for character in text:
        kind, _, plain = unicodedata.decomposition(character).partition(" ")
        if kind not in {"<super>", "<sub>"}:
            kind = ""
        if kind != kind_before and kind_before:
            joined.append("}")
        if kind and kind != kind_before:
            joined.append("^{" if kind == "<super>" else "_{")
        joined.append("".join(chr(int(code, 16)) for code in plain.split()) if kind else character)
        kind_before = kind
    return "".join(joined) + ("}" if kind_before else "")


def _unit_as_text(match: re.Match[str]) -> str:
    r"""`\mathrm{m/s}` behind a number is no product of variables."""
    content = re.sub(r"\\[,;:! ]|~", " ", match[1]).strip()
    if not _BEHIND_NUMBER.search(match.string, max(match.start() - 60, 0), match.start()):
        return match[0]
    if not is_unit(content) or match.string[match.end() : match.end() + 1] == "_":
        return match[0]
    # The braces of a power would end the \text.
    return rf"\text{{{re.sub(r'[{}]', '', content)}}}"


def _unwrapped_text(text: str) -> str:
    r"""What stands in one \text as if it stood outside, where it is more than words."""
    match = _WHOLE_TEXT.fullmatch(text)
    if match is None:
        return text
    content = match[1].strip(" .")
    pieces = [p.strip() for p in re.split(r",|;|\band\b|\bor\b", content) if p.strip()]
    if len(pieces) > 1 and all(
        re.fullmatch(r"[-+]?[\d./]+|\(?[A-Z]\)?", piece) for piece in pieces
    ):
        return content
    counted = _COUNTED.fullmatch(content)
    if counted and not re.match(
        rf"[ap]m\b|(?:st|nd|rd|th)\b|(?:{_MONTHS.replace(' ', '|')})", counted[2], re.I
    ):
        return rf"{counted[1]}\text{{{counted[2]}}}"
    label = re.fullmatch(r"(.*(?:\bis|:|=)) *([-+]?\d[\d.,/]*)", content)
    if label and not _LABEL_STOPS.search(label[1].rstrip("=")):
        return label[2]
    return text


def _without_label(text: str) -> str:
    r"""`\text{The area is }12` as 12, unless the words say more than a name."""
    match = _LABEL.match(text)
    if match is None or len(match[1].strip()) < 2 or _LABEL_STOPS.search(match[1].strip(" :=")):
        return text
    words = match[1].strip(" :=").lower()
    is_label = match[0].rstrip().endswith((":", "=")) or match[1].rstrip().endswith((":", "="))
    if is_label or re.search(
        r"\b(?:is|are|equals|approximately|about|roughly|around|answer|exactly|precisely|therefore|thus|hence"
        r"|so|(?:total|sum|value|minimum|maximum|average|mean) of),?$",
        words,
    ):
        return text[match.end() :]
    return text


def _joined(match: re.Match[str]) -> str:
    return match[0].replace(",", "")


def _decimal_degrees(match: re.Match[str]) -> str:
    seconds = match["seconds"] or "0"
    value = rf"{match['degrees']}+\frac{{{match['minutes']}}}{{60}}+\frac{{{seconds}}}{{3600}}"
    return f"{match['sign']}({value})°"
