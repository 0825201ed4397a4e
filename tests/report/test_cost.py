"""Runs side by side with what they cost: `luffy-pl report`."""

import json

import pytest
from report.report_runs import Page, write_lines, write_run
from report.test_compare import write_run as write_counts

from luffy_pl.report import curves
from luffy_pl.report.cost import (
    MEASURES,
    REWARD,
    accuracy_over,
    cost_rows,
    series_over,
    short,
)
from luffy_pl.report.page.training_figures import expert_figures
from luffy_pl.run_dir.read import RunHistory, read_lines, read_run


def add_metrics(folder, *lines):
    write_lines(folder / "metrics.jsonl", [*read_lines(folder / "metrics.jsonl"), *lines])


@pytest.fixture
def costly(tmp_path):
    """Phase n has cost 1000 n tokens, 4 PFLOP n and some of the rest."""

    def make(name, *, avg=0.5):
        folder = write_run(tmp_path / name, avg=avg)
        add_metrics(folder, *(
            {"step": n, "ledger/generated_tokens": 1000.0 * n,
             "ledger/trained_rollout_tokens": 800.0 * n, "ledger/trained_given_tokens": 7.0 * n,
             "ledger/optimizer_steps": 2.0 * n, "ledger/model_flops": 4e15 * n,
             "ledger/seconds": 1.5 * n}
            for n in (1, 2)
        ))  # fmt: skip
        return folder

    return make


def test_curves_over_every_measure_by_hand(costly):
    run = read_run(costly("run"))
    assert series_over(run, REWARD, MEASURES["phase"]) == [(1, 0.25), (2, 0.5)]
    assert series_over(run, REWARD, MEASURES["generated_tokens"]) == [(1000, 0.25), (2000, 0.5)]
    assert series_over(run, REWARD, MEASURES["flops"]) == [(4, 0.25), (8, 0.5)]
    # An evaluation before training has cost nothing.
    assert accuracy_over(run, "heldout", MEASURES["flops"]) == [(0, 50), (8, 50)]
    bare = RunHistory("bare", None, {1: {REWARD: 1.0}}, [])
    assert series_over(bare, REWARD, MEASURES["flops"]) == []


def test_totals_stand_beside_the_final_accuracy(command_line, costly, tmp_path):
    runs = [costly("one"), costly("two", avg=0.75), write_run(tmp_path / "bare")]
    [one, _] = cost_rows([read_run(folder) for folder in runs])
    assert one == ("one", [("heldout", "50.0")], ["2k", "1.6k", "14", "4", "8", "3"])
    done = command_line("report", *runs)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["two", "heldout", "75.0", "2k", "1.6k", "14", "4", "8", "3"] in rows
    assert max(map(len, done.stdout.splitlines())) <= 80
    # None of them kept the counts of its problems.
    assert "difference" not in done.stdout
    assert "PFLOP" not in command_line("report", runs[2]).stdout


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, ""), (0.0, "0"), (999.0, "999"), (1234.0, "1.23k"), (5e6, "5M"), (7.25e-6, "7.25e-06")],
)
def test_numbers_have_three_digits(number, shown):
    assert short(number) == shown


def test_later_runs_are_paired_with_the_first(command_line, costly, tmp_path):
    first, second, third = (costly(name) for name in ("first", "second", "third"))
    write_counts(first, [0] * 30 + [2] * 10 + [1] * 60)
    write_counts(second, [1] * 100)
    done = command_line("report", first, second, third, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    titles = [line for line in done.stdout.splitlines() if "against" in line]
    assert [title.split()[:3] for title in titles] == [["second", "against", "first:"]]
    page = Page((tmp_path / "page.html").read_text())
    assert {"differences", "cost"} <= set(page.ids())
    assert "second against first" in page.text_of("h3")
    assert {"40.0", "50.0", "+10.0", "yes"} <= set(page.text_of("td"))
    # Without counts of the first there is nothing to be paired with.
    alone = command_line("report", third, first, second)
    assert (alone.returncode, "against" in alone.stdout) == (0, False)


def test_the_page_has_each_curve_once_and_all_three_axes(command_line, costly):
    run = costly("run")
    assert command_line("report", run, "--over", "generated_tokens").returncode == 0
    page = Page((run / "report.html").read_text())
    assert list(page.figures()) == ["accuracy (percent)", "reward", "entropy (nats per token)"]
    assert page.figures()["reward"]["lines"][0]["y"] == [0.25, 0.5]
    places = {axis["label"]: axis["places"]["run"] for axis in page.axes().values()}
    assert places == {
        "phase": {"0": 0, "1": 1, "2": 2},
        "generated tokens": {"0": 0, "1": 1000, "2": 2000},
        "PFLOP": {"0": 0, "1": 4, "2": 8},
    }
    # It is drawn over what was asked for at first.
    assert json.loads(page.embedded("figures"))["axis"] == "generated_tokens"
    assert "2k" in page.text_of("td")


def test_a_picture_over_cost(command_line, costly, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "decorate", lambda axis, title, x: drawn.append((title, x, axis)))
    done = command_line("report", costly("run"), "--plot", tmp_path / "p.png", "--over", "flops")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    # Nothing is drawn of what the run does not have.
    assert [(title, x_label) for title, x_label, _ in drawn] == [
        ("accuracy (percent)", "PFLOP"), ("reward of rollouts", "PFLOP"),
        ("entropy of rollouts (nats per token)", "PFLOP"),
    ]  # fmt: skip
    accuracy, reward = (drawn[place][2].lines[0] for place in (0, 1))
    assert accuracy.get_xydata().tolist() == [[0, 50], [8, 50]]
    assert reward.get_xydata().tolist() == [[4, 0.25], [8, 0.5]]


def test_only_a_run_with_an_expert_has_a_line_of_one(command_line, costly, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(curves, "decorate", lambda axis, title, x: drawn.update({title: axis}))
    runs = [costly("alone"), costly("guided")]
    # Older runs logged a probability of 0 where there was no token of an expert.
    add_metrics(runs[0], {"step": 1, "actor/off_policy_prob": 0.0})
    add_metrics(runs[1], {"step": 1, "actor/off_policy_prob": 0.9, "on_off_metrics/off_score": 1.0})
    done = command_line("report", *runs, "--plot", tmp_path / "p.png")
    assert done.returncode == 0, done.stderr
    assert next(iter(drawn)) == "accuracy on heldout (percent)"
    [line] = drawn["expert tokens: mean probability"].lines
    assert (line.get_label(), line.get_color()) == ("guided", "C1")
    assert line.get_xydata().tolist() == [[1, 0.9]]


def test_a_run_without_a_ledger_is_told_apart(command_line, costly, tmp_path):
    done = command_line("report", costly("run"), write_run(tmp_path / "bare"), "--over", "flops")
    assert done.returncode == 8
    assert "bare: has no ledger/model_flops" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_section_on_the_expert(command_line, tmp_path):
    run = write_run(tmp_path / "run")
    assert expert_figures([read_run(run)]) == []
    add_metrics(run, *(
        {"step": n, "on_off_metrics/off_score": 1.0, "expert/nll_nats": 1 / n,
         "batch/only_expert_solves": 0.5, "expert/probability_hist/0.0": 0.25,
         "expert/probability_hist/0.5": 0.75}
        for n in (1, 2)
    ))  # fmt: skip
    assert command_line("report", run).returncode == 0
    page = Page((run / "report.html").read_text())
    assert "expert" in page.ids()
    figures = {one.title: one for one in expert_figures([read_run(run)])}
    assert set(figures) <= set(page.text_of("figcaption"))
    assert list(figures) == [
        "groups that only the expert solves",
        "imitation left (nats per token)",
        "the expert's tokens by probability (percent)",
    ]
    assert [line["name"] for line in page.figures()["reward"]["lines"]] == ["policy", "expert"]
    # Bins of 0 to 0.5 and 0.5 to 1, drawn at their middles.
    last = figures["the expert's tokens by probability (percent)"].lines[-1]
    assert (last.name, last.x, last.y) == ("phase 2", [0.25, 0.75], [25, 75])
