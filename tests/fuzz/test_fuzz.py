"""No wrong setting and no broken file is a defect, a traceback, a death, or without end."""

import pytest

from fuzz.run import fuzz, table

pytestmark = pytest.mark.runs


def check(client, work_dir, **numbers):
    found = fuzz(client, work_dir(), **numbers)
    assert len(found) == numbers["settings"] + numbers["files"]
    assert all(one.is_right for one in found), "\n".join(table(found))
    # Neither everything nor nothing is refused.
    assert {"ok", "refused 2", "refused 3"} <= {one.outcome for one in found}


def test_some_wrong_settings_and_files(client, work_dir):
    check(client, work_dir, settings=6, files=5, seed=3)


@pytest.mark.long
def test_many_wrong_settings_and_files(client, work_dir):
    check(client, work_dir, settings=300, files=150, seed=0)
