"""Sentences that make a native reader stumble, and that were rewritten once, do not come back."""

import re

import pytest

from docs.pages import ROOT

# What was written, to what says the same in plain English.
REWRITTEN = {
    r"the run that (nobody disturbed|was not\b)": "the result of a run that was never interrupted",
    r"where weights are equal": "when both see the same weights",
    r"one leaf of the configuration": "one setting",
    r"what can be turned": "settings",
    r"leaf to turn": "setting to change",
    r"whom to listen to": "address to listen on",
    r"nobody can match": "no answer can match",
    r"made anew": "rebuilt",
    r"mend them": "fix them",
    r"something got on": "progress was made",
    r'"""Of ': "a docstring that begins with what the function returns or does",
}
FILES = [
    *ROOT.glob("*.md"),
    *(
        file
        for folder in ("luffy_pl", "docs", "experiments", "conf")
        for ending in ("*.md", "*.py", "*.yaml", "*.jinja")
        for file in (ROOT / folder).rglob(ending)
    ),
]


@pytest.mark.parametrize("written", REWRITTEN)
def test_a_sentence_that_was_rewritten_stays_away(written):
    found = [
        f"{file.relative_to(ROOT)}: {match[0]!r}; write {REWRITTEN[written]!r}"
        for file in FILES
        for match in re.finditer(written, re.sub(r"\s+", " ", file.read_text()), re.IGNORECASE)
    ]
    assert found == []
