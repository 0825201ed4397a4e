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

_LABEL = re.compile(
    r"(?:(?<![A-Za-z])(?:answer|(?:correct|right|best|final) (?:choice|option))(?![A-Za-z])|答案)"
    r"(?P<link>[*_\"'`]{0,3}[ \t]?(?:(?:is|(?:must|should|would|has to) be)"
    r"(?: (?:clearly|definitely|indeed|thus|therefore|likely|most likely|probably|simply))?"
    r"|应?为|应?是|[-–—])?[ \t]?[*_\"'`]{0,3}[ \t]?[:：]?[*_]{0,3}"
    r"|[^\n:：.]{0,40}?\bis:?)",
    re.IGNORECASE,
)
_TAG = re.compile(r"<answer>(.{0,80}?)</answer>", re.IGNORECASE | re.DOTALL)
_CORRECT = re.compile(
    r"(?:^|[.,;:\n]|\b(?:so|that|thus|hence|therefore|option|choice)\b)"
    r"[ \t*]{0,4}(?:option |choice )?\(?([A-J])\)?\*{0,2} is (?:the )?(?:correct|right|best)\b",
    re.IGNORECASE,
)
_BARE = re.compile(r"\W{0,6}([A-J])\W{0,6}")


@dataclass(frozen=True)
class FoundChoice:
    """A letter ("" where several are claimed) and where in the text its claim begins."""

    letter: str
    start: int


def labelled_choice(text: str) -> FoundChoice | None:
    """The last claim behind a label such as `Answer:`, or in `<answer>` tags."""
    claims = [(match, _claim_behind(text, match)) for match in _last(_LABEL, text)]
    claims += [(match, read_claim(match[1])) for match in _last(_TAG, text)]
    found = [(m.start(), claim) for m, claim in claims if claim.letter or claim.several]
    if not found:
        return None
    start, claim = max(found, key=lambda pair: pair[0])
    return FoundChoice(claim.letter, start)


def unlabelled_choice(text: str) -> FoundChoice | None:
    """`C is correct`, or a text whose last line is a letter alone."""
    stated = [match for match in _CORRECT.finditer(text) if match[1].isupper()]
    if stated:
        return FoundChoice(stated[-1][1], stated[-1].start())
    line = text.rstrip().rpartition("\n")[2].strip()
    bare = _BARE.fullmatch(line) if len(line) < 20 else None
    return FoundChoice(bare[1], len(text)) if bare else None


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return list(deque(pattern.finditer(text), maxlen=MAX_CLAIMS))


def _claim_behind(text: str, label: re.Match[str]) -> Claim:
    """The claim of the words behind a label, which may stand on the next line."""
    behind = text[label.end() : label.end() + LONGEST_CLAIM].lstrip(" \t*_:：\r")
    is_linked = bool(label["link"].strip(" \t*_\"'`"))
    if behind.startswith("\n"):
        behind = behind.lstrip("\n \t")
    elif not is_linked:
        return Claim()
    return read_claim(behind.partition("\n")[0])
