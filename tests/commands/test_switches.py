"""A switch is written in one way for every command."""

import pytest

from luffy_pl.commands.switches import with_values

ON_OR_OFF = {"--dry_run", "--resume"}


@pytest.mark.parametrize(("given", "expected"), [
    (["--dry_run"], ["--dry_run=true"]),
    (["--dry_run", "true"], ["--dry_run=true"]),
    (["--dry_run", "True"], ["--dry_run=true"]),
    (["--dry_run", "false", "--run_dir", "true"], ["--dry_run=false", "--run_dir", "true"]),
    (["--dry_run=false"], ["--dry_run=false"]),
    (["--resume", "--dry_run"], ["--resume=true", "--dry_run=true"]),
    # A value that is none is left to the parser, which says what it may be.
    (["--resume", "maybe"], ["--resume=maybe"]),
    # What looks like a file is no value: `sweep --dry_run grid.yaml`.
    (["--dry_run", "grid.yaml"], ["--dry_run=true", "grid.yaml"]),
    (["--dry_run", "bundled:quickstart"], ["--dry_run=true", "bundled:quickstart"]),
    (["--name", "--dry_run"], ["--name", "--dry_run=true"]),
])  # fmt: skip
def test_a_switch_with_or_without_its_value(given, expected):
    assert with_values(given, ON_OR_OFF) == expected
