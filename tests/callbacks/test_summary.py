"""The end of a run: what is printed, and for which run."""

import json
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from luffy_pl.callbacks.summary import Summary
from luffy_pl.report.curves import decorate


@pytest.fixture
def ended(tmp_path, capsys, monkeypatch):
    """Ends a run of one phase in the folder `run`; returns what is printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    row = {"phase": 1, "on_off_metrics/on_score": 0.5}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    def end(**options):
        trainer = SimpleNamespace(default_root_dir="run", is_global_zero=True)
        Summary(next_commands=["then {run_dir}"], **options).on_fit_end(trainer, None)
        return capsys.readouterr().out

    return end


def test_a_run_without_evaluation_says_where_its_curves_are(ended, tmp_path):
    out = ended()
    assert "curves: run/curves.png\n" in out
    assert "luffy-pl view run\n" in out
    assert "TensorBoard" not in out
    (tmp_path / "run" / "tb").mkdir()
    assert "TensorBoard: run/tb\n" in ended()


@pytest.mark.parametrize(("values", "ends"), [([0, 0], (0, 1)), ([10, 10], (9, 11))])
def test_a_line_that_does_not_change_is_not_magnified(values, ends):
    axis = Figure().subplots()
    axis.plot([0, 1], values)
    decorate(axis, "accuracy")
    assert axis.get_ylim() == ends


def test_what_comes_next_is_said_of_one_run(ended):
    assert "  then run\n" in ended()
    assert "  then run\n" in ended(next_commands_of="run")
    assert "then" not in ended(next_commands_of="outputs/quickstart")
