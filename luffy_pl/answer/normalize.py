r"""One spelling for one answer: Unicode, LaTeX variants, number formats.

The result is still LaTeX (math_verify reads it) with macros in their plainest form:
`½` and `\dfrac12` become `\frac{1}{2}`, `√2` `\sqrt{2}`, `1\,234` `1234`, `\mathrm{e}` `e`,
`\textbf{(C)}` `\text{(C)}`, `2\frac12` `(2+\frac{1}{2})`, `90^{\circ}` `90°`.
Callers bound the length of what they pass in.
"""

# ruff: noqa: RUF001 (signs that look like others are the subject)
from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

ROW_BREAK = r"\cr "
"""What a LaTeX row break becomes, so that matrices can be cut into rows."""

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "±": r"\pm ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "⌀": r"\emptyset ", "∖": r"\setminus ", "º": "°", "˚": "°",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "∠": r"\angle ", "…": r"\ldots ", "′": "'",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "φ": r"\phi ",
    "ω": r"\omega ", "Δ": r"\Delta ", "Ω": r"\Omega ",
}  # fmt: skip

_FONTS = "mathrm|mathbf|mathit|mathsf|mathnormal|boldsymbol|bm|vec|hat|operatorname\\*?|rm|bf"
_TEXTS = "textbf|textit|textrm|textsf|texttt|textnormal|emph|mbox|hbox|text"
_FUNCTIONS = "(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp|max|min|gcd"
_FUNCTION = re.compile(_FUNCTIONS)
_ARGUMENT = r"(\{[^{}]*\}|[0-9A-Za-z]|\\pi(?![A-Za-z]))"

# Applied in this order, each once.
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\text\s?\{\s*\\?\$\s*\}", r"\\$"),
        (r"\\text\s?\{\s*([-+]?[\d.,/]*\d)\s*\}", r"\1"),
        (r"^\s*(\*\*|__)(.*\S)\1\s*$", r"\2"),
        (r"(?<!\\)\$|\\[()\[\]](?![A-Za-z])", r" "),
        (r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?)(?![A-Za-z])\.?", r""),
        (r"\\(?:displaystyle|textstyle|limits|nolimits|phantom\{\})(?![A-Za-z])|\\!", r""),
        (r"\\(?:quad|qquad)(?![A-Za-z])|\\[,;: ~]|~", r" "),
        (r"(?<=\d)\{,\}(?=\d{3})", r""),
        (r"\{,\}", r","),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:leq|leqslant|leqq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geq|geqslant|geqq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", r"<"),
        (r"\\gt(?![A-Za-z])", r">"),
        (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\(?:%|percent(?![A-Za-z]))", r"%"),
        (r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|°)|\\degree(?![A-Za-z])", r"°"),
        (r"\\(?:imath|mathrm\{i\})(?![A-Za-z])", r"i"),
        (r"\\begin\{array\}\s*\{[lcr| ]*\}", r"\\begin{matrix}"),
        (r"\\end\{array\}", r"\\end{matrix}"),
        (r"\\colon(?![A-Za-z])", r":"),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
        (r"\\overline\s*\{([A-Z]{1,3})\}", r"\1"),
        (r"(?<![A-Za-z}])C_\{?(\d{1,4})\}?\^\{?(\d{1,4})\}?(?!\d)", r"\\binom{\1}{\2}"),
        (r"(?<![\\A-Za-z])(?:numpy|np|math)\.(?=[a-z])", r""),
        (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?=\s*[(\d\\])", r"\\\1 "),
        (r"\*\*", r"^"),
        (r"\*", r"\\cdot "),
        (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times "),
        (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<![\\A-Za-z])(?:infinity|infty|oo)(?![A-Za-z])", r"\\infty "),
        (r"\\text\{\s*,?\s*(and|or)\s*\}", r" \1 "),
        (r"(?<![\\A-Za-z])sqrt(?![A-Za-z])", r"\\sqrt"),
        (r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{"),
        (r"\\(frac|sqrt|binom)\s+", r"\\\1"),
        (r"(?<![\d,.])([1-9]\d{0,2}(?: \d{3})+)(?!\d)", r"<\1>"),
    )
)
_ROWS = re.compile(r"\\begin\{(aligned|align\*?|gathered|split|cases)\}(.*?)\\end\{\1\}")
_FRACTION = re.compile(r"\\frac\s*" + _ARGUMENT + r"\s*" + _ARGUMENT)
_GROUPED = re.compile(r"<(\d{1,3}(?: \d{3})+)>")
_MIXED = re.compile(
    r"(?<![\d.,^_{}A-Za-z\\])(\d{1,9})\s*"
    r"(?:\\frac\{(\d{1,9})\}\{(\d{1,9})\}|\s(\d{1,9})/(\d{1,9}))(?![\d.])"
)


@lru_cache(maxsize=4096)
def normalize(text: str) -> str:
    """`text` in its plainest spelling; the same answer written twice gives the same string."""
    # A row break first: its second backslash would read as the start of `\\ ` or `\\,`.
    text = _fold_unicode(text).replace("\\\\", ROW_BREAK)
    text = _ROWS.sub(_rows_to_list, _unwrap_macros(text))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _GROUPED.sub(lambda match: match.group(1).replace(" ", ""), text)
    text = _brace_roots(_brace_arguments(text))
    text = _MIXED.sub(_mixed_number, text)
    text = re.sub(r"\s+", " ", text).strip(" ,;:").removesuffix(ROW_BREAK.strip())
    return text.rstrip(" .")


def _fold_unicode(text: str) -> str:
    return "".join(_fold_character(character) for character in text)


def _fold_character(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    if character in _SIGNS:
        return _SIGNS[character]
    if character == "√":
        return r"\sqrt "
    # Before NFKC, which would turn x² into x2 and 2½ into 21⁄2.
    kind, _, plain = unicodedata.decomposition(character).partition(" ")
    if kind in {"<super>", "<sub>"}:
        letters = "".join(chr(int(code, 16)) for code in plain.split())
        return f"{'^' if kind == '<super>' else '_'}{{{_fold_unicode(letters)}}}"
    if kind == "<fraction>":
        above, _, below = unicodedata.normalize("NFKC", character).partition("⁄")
        return rf"\frac{{{above}}}{{{below}}}" if below else character
    if unicodedata.category(character) in {"Cf", "Cc", "Cs", "Co", "Cn"}:
        return ""
    folded = unicodedata.normalize("NFKC", character)
    return folded if folded == character else _fold_unicode(folded)


def _unwrap_macros(text: str) -> str:
    r"""Fonts and boxes around a symbol go; around a word they become `\text{}`."""
    for _ in range(4):  # nested at most this deep
        before = text
        text = re.sub(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}", _unwrap_font, text)
        text = re.sub(rf"\\(?:{_TEXTS})\s*\{{([^{{}}]*)\}}", r"\\text{\1}", text)
        text = re.sub(r"\\text\{\s*\\text\{([^{}]*)\}\s*\}", r"\\text{\1}", text)
        text = re.sub(r"\\[f]?boxed?\s*\{([^{}]*)\}", r"\1", text)
        if text == before:
            break
    return text


def _unwrap_font(match: re.Match[str]) -> str:
    content = match.group(1).strip()
    if _FUNCTION.fullmatch(content):
        return f"\\{content} "
    is_word = len(content) > 1 and content.replace(" ", "").isalpha()
    return rf"\text{{{content}}}" if is_word else content


def _rows_to_list(match: re.Match[str]) -> str:
    rows = match.group(2).replace("&", "").split(ROW_BREAK)
    return ", ".join(row.strip() for row in rows if row.strip())


def _brace_arguments(text: str) -> str:
    r"""`\frac 1 2` to `\frac{1}{2}`; arguments that are braced already stay."""
    return _FRACTION.sub(lambda m: rf"\frac{_braced(m.group(1))}{_braced(m.group(2))}", text)


def _braced(argument: str) -> str:
    return argument if argument.startswith("{") else f"{{{argument}}}"


def _brace_roots(text: str) -> str:
    r"""`\sqrt 2`, `\sqrt2` and `\sqrt(2)` to `\sqrt{2}`."""
    text = re.sub(r"\\sqrt\s*([A-Za-z]|\d+(?:\.\d+)?)", r"\\sqrt{\1}", text)
    position = text.find("\\sqrt(")
    while position >= 0:
        start = position + len("\\sqrt")
        end = _closing(text, start)
        if end is None:
            break
        text = f"{text[:start]}{{{text[start + 1 : end]}}}{text[end + 1 :]}"
        position = text.find("\\sqrt(", start)
    return text


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return None


def _mixed_number(match: re.Match[str]) -> str:
    whole, above, below, plain_above, plain_below = match.groups()
    above, below = above or plain_above, below or plain_below
    # 2\frac{3}{2} is a product, not a mixed number.
    if int(above) >= int(below):
        return match.group()
    return rf"({whole}+\frac{{{above}}}{{{below}}})"
