"""Times of the day and dates."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLOCK = re.compile(
    r"0?(?P<hours>\d{1,2})(?::(?P<minutes>\d\d))?(?::(?P<seconds>\d\d))? ?"
    r"(?:(?P<mark>[ap])\.?(?: ?m\.?)?|(?P<exact>noon|midnight|o ?'? ?clock))?",
    re.IGNORECASE,
)
_MONTHS = """
    january february march april may june july august september october november december
"""
_MONTH_NUMBERS = {name[:3]: number for number, name in enumerate(_MONTHS.split(), start=1)}
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_WEEKDAYS = frozenset(_DAYS.split())
_FIELDS = ("year", "month", "day")
_FILLERS = frozenset(["the", "of", "on"])
_ISO_DATE = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"|(?:(?P<y>\d{4})年)?(?P<m>\d{1,2})月(?P<d>\d{1,2})[日号]"
)
_MAY_BE_DATE = re.compile(r"^\d{4}-|月|\d.*[A-Za-z]{3}|[A-Za-z]{3}.*\d")
_DATE_TOKEN = re.compile(r"(?P<number>\d{1,4})(?:st|nd|rd|th)?|(?P<word>[a-z]+)\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Clock:
    """A time of the day; `mark` is "a", "p" or ""."""

    hours: int
    minutes: int
    seconds: int
    mark: str

    def is_same(self, other: Clock) -> bool:
        """Whether both name one time: 15:30 is 3:30 p.m.; 3:30 may also be in the morning."""
        if self.mark and not other.mark:
            return other.is_same(self)
        if other.mark and not self.mark and 1 <= self.hours <= 12:
            return False
        return self._of_day() == other._of_day()

    def _of_day(self) -> tuple[int, int, int]:
        hours = self.hours % 12 + 12 * (self.mark == "p") if self.mark else self.hours
        return hours, self.minutes, self.seconds


@dataclass(frozen=True)
class _Date:
    month: int
    day: int
    year: int = 0


def read_clock(value: str) -> Clock | None:
    r"""`4:30`, `4\text{ p.m.}`, `noon`; None if `value` is no time of the day.

    A time inside one \text is a string of words, as for other graders.
    """
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", value).strip(" .")
    if words.lower() in {"noon", "midnight"}:
        return Clock(12, 0, 0, "p" if words.lower() == "noon" else "a")
    match = _CLOCK.fullmatch(re.sub(r"\s+", " ", words)) if value[:1].isdigit() else None
    if match is None or not (match["minutes"] or match["mark"] or match["exact"]):
        return None
    mark = (match["mark"] or "").lower()
    if match["exact"] and match["exact"].lower() in {"noon", "midnight"}:
        mark = "p" if match["exact"].lower() == "noon" else "a"
    hours, minutes, seconds = (int(match[name] or 0) for name in ("hours", "minutes", "seconds"))
    return Clock(hours, minutes, seconds, mark)


def is_date(value: str) -> bool:
    """Whether `value` is a date."""
    return _read_date(value) is not None


def are_same_date(answer: str, gold: str) -> bool:
    """March 5, the 5th of March and 2021-03-05; a year or a weekday may be said in addition."""
    mine, theirs = _read_date(answer), _read_date(gold)
    if mine is None or theirs is None:
        return False
    has_year = theirs.year in {0, mine.year}
    return has_year and (mine.month, mine.day) == (theirs.month, theirs.day)


def _read_date(value: str) -> _Date | None:
    if not _MAY_BE_DATE.search(value):
        return None
    if match := _ISO_DATE.fullmatch(value):
        found = match.groupdict()
        year, month, day = (int(found[name] or found[name[0]] or 0) for name in _FIELDS)
        return _Date(month, day, year)
    plain = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", value).replace(",", " ").strip(" .")
    if not plain[:1].isalnum() or not plain.isascii():
        return None
    month, numbers = 0, []
    for token in plain.split():
        match = _DATE_TOKEN.fullmatch(token)
        if match is None:
            return None
        word = (match["word"] or "").lower()
        if match["number"]:
            numbers.append(int(match["number"]))
        elif not month and _month_of(word):
            month = _month_of(word)
        elif word not in _FILLERS | _WEEKDAYS:
            return None
    days, years = ([n for n in numbers if (n <= 31) is is_day] for is_day in (True, False))
    if not month or not numbers or len(days) > 1 or len(years) > 1:
        return None
    return _Date(month, days[0] if days else 0, years[0] if years else 0)


def _month_of(word: str) -> int:
    """1 to 12 for the name of a month or its beginning, else 0."""
    is_name = any(name.startswith(word) for name in _MONTHS.split()) and len(word) >= 3
    return _MONTH_NUMBERS[word[:3]] if is_name else 0
