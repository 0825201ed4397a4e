"""From runs to two tables, and from these alone to figure and page."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from luffy_pl.errors import ConfigError, DataError, StorageError
from luffy_pl.sweep.command import main, show_results
from luffy_pl.sweep.grid import read_grid
from luffy_pl.sweep.page import write_sweep_page
from luffy_pl.sweep.plan import make_cells
from luffy_pl.sweep.results import write_tables
from luffy_pl.sweep.state import append
from luffy_pl.sweep.summary import read_curves, read_groups, summary_table
from sweep.fake_cell import write_run


def finished(path, accuracies):
    """Runs of the grid's cells with these final accuracies."""
    grid = read_grid(path)
    grid.run_dir.mkdir(exist_ok=True)
    cells = make_cells(grid)
    for cell, accuracy in zip(cells, accuracies, strict=False):
        write_run(cell.run_dir, accuracy=accuracy)
        append(grid.run_dir, "finished", cell, seconds=60.0, exit_code=0)
    return grid, cells


def test_a_row_per_cell_and_benchmark(grid_file, tmp_path):
    grid, cells = finished(grid_file(metrics=["longer"]), [0.5, 0.6, 0.7, 0.8])
    write_tables(grid, cells, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "cell": "good-seed1", "group": "good", "method": "good", "seed": "1",
        "benchmark": "longer", "n": "20", "k": "1", "before": "0.25", "after": "0.6",
        "low": "0.5", "high": "0.7",
        "sampling_temperature": "0.0", "pass": "0.6", "tokens_correct": "40.0",
        "tokens_incorrect": "",
        # means of phases 1, 2, 3 and 2, 3, 4
        "entropy/rollout_nats_first": "2.0", "entropy/rollout_nats_last": "3.0",
    }  # fmt: skip
    assert len(rows) == 4
    with (tmp_path / "out" / "curves.csv").open() as file:
        last = next(row for row in csv.DictReader(file) if row["phase"] == "4")
    assert (last["generated_tokens"], last["model_flops"]) == ("400.0", "4000000000000.0")


def test_the_recipe_of_a_cell_is_a_column(grid_file, tmp_path):
    grid, cells = finished(grid_file(), [1.0, 1.0, 0.7, 0.8])
    for cell in cells:
        (cell.run_dir / "config.yaml").write_text(f"recipe: {cell.group}_recipe\n")
    write_tables(grid, cells, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        assert {(row["group"], row["recipe"]) for row in csv.DictReader(file)} == {
            ("good", "good_recipe"), ("better", "better_recipe"),
        }  # fmt: skip
    results = read_groups(tmp_path)
    rows = [cells.split() for cells in rendered(summary_table(results)).splitlines()]
    assert ["good", "good_recipe", "heldout"] in [row[:3] for row in rows]
    # All seeds have one value: that is no interval.
    assert [row[-2:] for row in rows if row[:1] == ["good"]] == [["seeds", "equal"]]
    write_sweep_page("tiny", results, [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<td>good</td><td>good_recipe</td><td>heldout</td>" in page
    assert "<td>100.0</td><td>seeds equal</td>" in page


def rendered(table):
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    return console.file.getvalue()


def test_groups_and_curves_by_hand(grid_file, tmp_path):
    grid, cells = finished(grid_file(metrics=["longer"]), [0.4, 0.8, 0.7])
    write_tables(grid, cells[:3], tmp_path)
    good, better = read_groups(tmp_path)
    assert (good.group, good.before, good.after.num_seeds) == ("good", 0.25, 2)
    # s = 0.4 / sqrt(2), t of one degree 12.706: 0.6 +- 12.706 * 0.2
    assert (good.after.value, good.after.low) == pytest.approx((0.6, 0.6 - 12.706 * 0.2), abs=1e-3)
    assert (better.after.value, better.after.low) == (0.7, None)
    reward = read_curves(tmp_path)["good"]["reward"]
    assert reward.phases == (1, 2, 3, 4)
    assert (reward.mean[3], reward.low[3], reward.high[3]) == pytest.approx((0.6, 0.4, 0.8))


def test_a_phase_that_only_imitates_has_a_row_with_its_costs(grid_file, tmp_path):
    grid, cells = finished(grid_file(metrics=["longer"]), [0.5, 0.5, 0.7])
    for cell in cells[:2]:
        file = cell.run_dir / "metrics.jsonl"
        phases = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [{"step": one["step"], "ledger/model_flops": 7.0 * one["step"]} for one in phases]
        file.write_text("".join(json.dumps(one) + "\n" for one in kept))
    write_tables(grid, cells[:3], tmp_path)
    with (tmp_path / "curves.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["group"], first["phase"], first["model_flops"]) == ("good", "1", "7.0")
    assert (first["reward"], first["entropy"], first["length"]) == ("", "", "")
    show_results("imitation", tmp_path)
    assert read_curves(tmp_path)["good"]["reward"].phases == ()


def test_figure_and_page_are_made_again_without_the_runs(grid_file, tmp_path, capsys):
    path = grid_file()
    finished(path, [0.5, 0.6, 0.7])
    assert main([str(path), "--summarize", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "not in the summary: better-seed1" in said.err
    assert "one seed" in said.out
    # The page leads to those of its runs, which are written with it.
    page = (tmp_path / "out" / "summary.html").read_text()
    links = re.findall(r'<a href="([^"]+)">(seed \d)</a>', page)
    assert [seed for _, seed in links] == ["seed 0", "seed 1", "seed 0"]
    for address, _ in links:
        assert 'id="training"' in (tmp_path / "out" / address).read_text()
    (tmp_path / "runs").rename(tmp_path / "gone")
    for name in ("figure.png", "summary.html"):
        (tmp_path / "out" / name).unlink()
    assert main(["--figures", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert "report.html" not in page  # there are no runs to lead to
    assert "<td>good</td><td>heldout</td><td>20</td><td>1</td><td>2</td>" in page


def test_names_are_escaped_in_the_page(grid_file, tmp_path):
    grid, cells = finished(grid_file(), [0.5])
    write_tables(grid, cells[:1], tmp_path)
    table = tmp_path / "results.csv"
    table.write_text(table.read_text().replace("heldout", "<script>alert(1)</script>"))
    show_results("<b>", tmp_path)
    page = (tmp_path / "summary.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<b>" not in page


def test_mistakes_are_one_line(grid_file, tmp_path):
    grid, cells = finished(grid_file(metrics=["longr"]), [0.5])
    with pytest.raises(ConfigError, match=r"metrics.*did you mean longer\?"):
        write_tables(grid, cells[:1], tmp_path)
    with pytest.raises(StorageError, match="results are gone"):
        write_tables(grid, cells[1:], tmp_path)
    (tmp_path / "results.csv").write_text("group,seed\n")
    with pytest.raises(DataError, match="lacks a column, got 'after"):
        read_groups(tmp_path)
    with pytest.raises(ConfigError, match="have a column of this name, got 'seed'"):
        main([str(grid_file(axes={"seed": {"a": {}}}, metrics=None)), "--summarize"])
