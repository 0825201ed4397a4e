r"""The choice that a model's text ends with: `ANSWER: C`, `the answer is (C)`, a bare `C`.

Every pattern is bounded in what it looks at: a text of n characters costs O(n).
"""

# ruff: noqa: RUF001 (signs that look like others are the subject)
from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from luffy_pl.answer.choice import LONGEST_CLAIM, Claim, read_claim

MAX_CLAIMS = 32
"""So many labels, from the end, are looked at."""
LONGEST_ENDING = 4 * LONGEST_CLAIM
"""Characters from the end in which the last lines are looked for."""

_LABEL = re.compile(
    r"(?:(?<![A-Za-z])(?:answers?|ans\.?|(?:correct|right|best|final|selected|chosen|my)"
    r" (?:choice|option|letter|one)"
    r"|(?:conclusion|result|solution|final|correct|therefore)(?=[ \t]?:)"
    r"|(?<=[\"'])(?:choice|option|letter|label)(?=[\"']))"
    r"(?![A-Za-z])(?:[ _](?:choice|option|letter)| ?\(letter\))?"
    r"|答案|正确选项|答え|réponse|respuesta|antwort|(?P<picks>(?:故|所以|因此)应?选择?))"
    r"(?P<link>(?: (?:to|for|of|that|we|among|from|in|here|should|this)(?![A-Za-z])"
    r"[^\n:：.]{0,40}?\bis:?)"
    r"|[*_\"'`\])]{0,3}[ \t]?(?:(?:ist?|es|est|(?:must|should|would|has to) be)"
    r"(?: (?:clearly|definitely|indeed|thus|therefore|likely|most likely|probably|simply))?"
    r"|应?为|应?是|は|->|=>|[-–—=→|])?(?:[ \t]?[*_\"'`]{0,3}[ \t]?[:：])?[*_]{0,3})",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"<(?P<tag>(?:final_?)?(?:answer|choice|option))>(?P<claim>.{0,80}?)</(?P=tag)>", re.I | re.S
)
_CORRECT = re.compile(
    r"(?:^|(?<!\W[A-J])(?<!\A[A-J]),|[.;:\n]|\b(?:so|that|thus|hence|therefore|option|choice|statement|only)\b)"
    r"[ \t*]{0,4}(?:option |choice |statement )?\(?([A-J])\)?\*{0,2} "
    r"(?:is (?:(?:the|thus|therefore|only) ){0,2}(?:correct|right|best|answer)"
    r"|remains|fits|it is)\b",
    re.IGNORECASE,
)
_OPTION = r"(?:option |choice |letter )?\(?([A-J])\)?(?![A-Za-z'])"
_ALONE = re.compile(r"\(?[A-J]\)?[.*]{0,3}")
_BARE = re.compile(r"\W{0,6}([A-Ja-j])\W{0,6}|(?:option|choice) \(?([A-J])\)?\W{0,4}", re.I)
_LISTED = re.compile(r"(?:\(([A-HJ])\) ?|([A-HJ])[.:)] )(?=\S)")
_MARK = re.compile(r"\([A-J]\)|(?<![A-Za-z(])[A-J][.:)](?= |$)")
_CHOSEN = re.compile(
    rf"(?:\b(?:so|thus|hence|therefore|leaves(?: only)?)"
    rf"|\bi(?:'d| would|'ll| will)? (?:choose|pick|select|go (?:with|for))"
    rf"|(?:^|[.!] )(?:it|that)(?:'s| is)|\b(?:corresponds to|matches)(?= (?:option|choice))),? "
    rf"{_OPTION}\W{{0,4}}$",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|never|neither|cannot|except|wrong)\b|n't\b|\?", re.IGNORECASE)
_DECORATION = re.compile(r"</?[a-z]{1,10}>|\*\*|__|\\(?:textbf|text|mathrm)(?![a-z])|[${}`]", re.I)


@dataclass(frozen=True)
class FoundChoice:
    """A letter ("" where several are claimed) and where in the text its claim begins."""

    letter: str
    start: int


def labelled_choice(text: str) -> FoundChoice | None:
    """The last claim behind a label such as `Answer:`, or in `<answer>` tags."""
    claims = [(match, _claim_behind(text, match)) for match in _last(_LABEL, text)]
    claims += [(match, read_claim(match["claim"])) for match in _last(_TAG, text)]
    found = [(m.start(), claim) for m, claim in claims if claim.letter or claim.several]
    if not found:
        return None
    start, claim = max(found, key=lambda pair: pair[0])
    return FoundChoice(claim.letter, start)


def unlabelled_choice(text: str) -> FoundChoice | None:
    """`C is correct`, or a last line that is an option, or that ends by choosing one."""
    stated = [match for match in _CORRECT.finditer(text) if match[1].isupper()]
    if stated:
        start = stated[-1].start()
        same_line = {m[1] for m in stated if "\n" not in text[m.start(1) : start]}
        return FoundChoice(stated[-1][1] if len(same_line) == 1 else "", start)
    tail = text[-LONGEST_ENDING:].splitlines()[len(text) > LONGEST_ENDING :]
    lines = [plain for line in tail if (plain := _plain(line))]
    letter = _letter_of(lines) if lines else ""
    return FoundChoice(letter, len(text)) if letter else None


def _plain(line: str) -> str:
    return " ".join(_DECORATION.sub(" ", line).split()).lstrip("-*>#|• ")


def _letter_of(lines: list[str]) -> str:
    """The letter of the last line; "" for the last of several options that are listed."""
    last = lines[-1]
    bare = _BARE.fullmatch(last) or (None if _DENIED.search(last) else _CHOSEN.search(last))
    if bare is not None:
        return next(group for group in bare.groups() if group).upper()
    listed = _LISTED.match(last)
    is_one_of_many = len(_MARK.findall(last)) > 1 or (len(lines) > 1 and _LISTED.match(lines[-2]))
    return "" if listed is None or is_one_of_many else listed[1] or listed[2]


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return list(deque(pattern.finditer(text), maxlen=MAX_CLAIMS))


def _claim_behind(text: str, label: re.Match[str]) -> Claim:
    """The claim of the words behind a label, which may stand on the next line."""
    behind = text[label.end() : label.end() + LONGEST_CLAIM].lstrip(" \t*_:：\r")
    is_linked = bool(label["picks"] or label["link"].strip(" \t*_\"'`"))
    if behind.startswith("\n"):
        behind, is_linked = behind.lstrip("\n \t"), True
    line = behind.partition("\n")[0].rstrip(" |")
    return read_claim(line) if is_linked or _ALONE.fullmatch(line) else Claim()
