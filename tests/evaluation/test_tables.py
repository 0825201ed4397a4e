"""The table of a terminal, at the widths it is made for."""

import pytest
from rich.console import Console

from luffy_pl.evaluation.problems import write_problems
from luffy_pl.evaluation.tables import results_table
from luffy_pl.report.command import comparison
from luffy_pl.report.compare import paired_table
from luffy_pl.run_dir.read import RunHistory

ROW = {
    "benchmark": "gpqa_diamond", "n": 1172, "k": 32, "avg": 1.0, "low": 0.999, "high": 1.0,
    "pass": 1.0, "maj": 1.0, "no_answer": 1.0, "truncated": 1.0,
    "tokens": 8191.5, "tokens_correct": 8012.5, "tokens_incorrect": None,
}  # fmt: skip
AVERAGE = {"benchmark": "average_ood", "n": 12032, "avg": 0.5, "low": 0.25, "high": 0.75}


def printed(table, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def shown(width):
    return printed(results_table([ROW, AVERAGE], title="phase 0", width=width), width)


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut_off(width):
    assert "…" not in shown(width)
    assert "[99.9, 100.0]" in shown(width)
    assert "8191.5" in shown(width)


def test_a_wide_terminal_shows_lengths_of_right_and_wrong_answers():
    assert "8012.5" in shown(100)
    assert "8012.5" not in shown(99)


@pytest.mark.parametrize(("width", "gap"), [(80, " "), (90, "  ")])
def test_names_stay_whole_where_columns_can_move_together(width, gap):
    rows = [{"phase": 0, **ROW, "benchmark": "average_ood", "n": 320}]
    runs = [
        RunHistory(name, None, {}, rows, "on_policy")
        for name in ("quickstart", "no_shaping_at_all")
    ]
    assert gap.join(["no_shaping_at_all", "on_policy", "average_ood"]) in printed(
        comparison(runs), width
    )


MARKUP = "[b]no[/b] [/x]"


def test_names_are_no_markup():
    assert MARKUP in printed(results_table([ROW | {"benchmark": MARKUP}], title="phase 0"))
    assert MARKUP in printed(results_table([ROW], title=MARKUP))
    rows = [{"phase": 0, **ROW, "benchmark": MARKUP + "of"}]
    table = printed(comparison([RunHistory(MARKUP, None, {}, rows)]), 120)
    assert f" {MARKUP}  {MARKUP}of " in table


def test_names_of_compared_runs_are_no_markup(tmp_path):
    counts = {0: {"samples": 1, "graded": 1, "correct": 1}}
    for name in ("[b]one", "[i]two"):
        folder = tmp_path / name / "evaluation"
        write_problems(folder, "[u]bench", phase=0, ids=["a"], counts=counts)
    table = printed(paired_table(tmp_path / "[b]one", tmp_path / "[i]two"), 120)
    for name in ("[b]one", "[i]two", "[u]bench", "[i]two against [b]one"):
        assert name in table
    assert table.count("[b]one") == table.count("[i]two") == 2  # title and heading
