"""The way of a phase, as the module that collects it draws it."""

import re
from pathlib import Path

from luffy_pl.experience import collect

PACKAGE = Path(collect.__file__).parents[1]


def test_every_file_of_the_drawing_is_there():
    named = re.findall(r"[\w/]+\.py\b", collect.__doc__)
    assert len(set(named)) > 20
    assert [name for name in named if not (PACKAGE / name).is_file()] == []
