"""The journal of a sweep survives kills, and decides what is run again."""

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.run_dir.checkpoints import LAST_STATE
from luffy_pl.sweep.grid import read_grid
from luffy_pl.sweep.plan import make_cells
from luffy_pl.sweep.state import (
    CHECKPOINT,
    JOURNAL,
    CellStatus,
    append,
    check_unchanged,
    how_to_go_on,
    read_state,
    typical_seconds,
)


@pytest.fixture
def cell(grid_file, tmp_path):
    (tmp_path / "runs").mkdir()
    return make_cells(read_grid(grid_file()))[0]


def test_the_last_event_counts_and_a_torn_line_does_not(cell):
    folder = cell.run_dir.parent
    append(folder, "started", cell, reference="12_0")
    assert read_state(folder)[cell.name] == CellStatus(
        "started", cell.fingerprint, reference="12_0"
    )
    append(folder, "failed", cell, seconds=2.0, exit_code=3)
    with (folder / JOURNAL).open("a") as file:
        file.write('{"event": "finis')
    assert read_state(folder)[cell.name].event == "failed"
    append(folder, "finished", cell, seconds=5.0, exit_code=0)
    assert read_state(folder)[cell.name] == CellStatus("finished", cell.fingerprint, 5.0, 0)
    assert typical_seconds(read_state(folder)) == 5.0
    assert len((folder / JOURNAL).read_text().splitlines()) == 4


def test_only_an_interrupted_unchanged_cell_with_a_checkpoint_is_resumed(cell):
    def option(event, fingerprint=cell.fingerprint):
        return how_to_go_on(cell, CellStatus(event, fingerprint))

    assert how_to_go_on(cell, None) == ()
    assert option("started") == ("--overwrite=true",)
    checkpoint = cell.run_dir / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert checkpoint.name == LAST_STATE
    assert option("started") == option("interrupted") == ("--resume=true",)
    assert option("failed") == ("--overwrite=true",)
    assert option("started", "other") == ("--overwrite=true",)


def test_a_finished_cell_that_changed_is_refused_by_name(cell):
    check_unchanged([cell], {cell.name: CellStatus("finished", cell.fingerprint)})
    check_unchanged([cell], {cell.name: CellStatus("failed", "other")})
    with pytest.raises(ConfigError, match=f"cell {cell.name}: its arguments"):
        check_unchanged([cell], {cell.name: CellStatus("finished", "other")})
