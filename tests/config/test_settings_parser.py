"""jsonargparse is sped up, and finds what it would find."""

import pytest
from jsonargparse import Namespace

from luffy_pl.config.parser import WALK, walk_at_once

SECTION = Namespace(a=Namespace(b=Namespace(c=1), none=None, table={"d": 2}, items=3), e=[4])
KEYS = (
    "a", "e", "a.b", "a.b.c", "a.b.x", "a.x", "x", "x.y", "a.none", "a.none.x", "a.none.x.y",
    "a.table.d", "a.table.x", "a.table.d.x", "a.items", "items", "a.items.x", "e.x", "a.b.c.x",
    "__dict__", "a.__class__.x", "a.get.x", "", ".", "a.", ".a", "a..b", "a b", " a.b", 3, None,
)  # fmt: skip


def outcome(walk, section, key):
    try:
        return walk(section, key)
    except KeyError as error:
        return str(error)


@pytest.mark.parametrize("section", [SECTION, SECTION.a, Namespace()])
def test_every_key_leads_where_it_led(section):
    assert Namespace._parse_key is walk_at_once
    for key in KEYS:
        found, expected = (outcome(walk, section, key) for walk in (walk_at_once, WALK))
        assert found == expected, key
        if isinstance(found, tuple):
            assert found[1] is expected[1], key
