"""Runs side by side with what they cost: `luffy-pl report`."""

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
from luffy_pl.report.page.expert_figures import expert_figures
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


def test_the_page_has_reward_and_accuracy_over_all_three(command_line, costly):
    run = costly("run")
    assert command_line("report", run, "--over", "generated_tokens").returncode == 0
    page = Page((run / "report.html").read_text())
    assert page.text_of("figcaption")[:6] == [
        f"{quantity}, by {label}"
        for quantity in ("reward of rollouts", "heldout: accuracy in percent")
        for label in ("phase", "generated tokens", "PFLOP")
    ]
    says = [text for text in page.text_of("title") if text.startswith("run: ")]
    # The training section is drawn over what was asked for.
    assert "run: 2000, 0.5" in says
    assert says.count("run: 2, 0.5") == 1
    assert "2k" in page.text_of("td")


def test_a_picture_over_cost(command_line, costly, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "decorate", lambda axis, title, x: drawn.append((title, x, axis)))
    done = command_line("report", costly("run"), "--plot", tmp_path / "p.png", "--over", "flops")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    title, x_label, axis = drawn[0]
    assert (title, x_label) == ("reward of rollouts", "PFLOP")
    assert axis.lines[0].get_xdata().tolist() == [4, 8]


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
    charts = {chart.title: chart for chart in expert_figures([read_run(run)])}
    assert set(charts) <= set(page.text_of("figcaption"))
    assert list(charts) == [
        "reward: own and expert",
        "share of groups that only the expert solves",
        "imitation left (nats per given token)",
        "entropy: own and given tokens (nats)",
        "given tokens by probability (percent)",
    ]
    assert [line.name for line in charts["reward: own and expert"].lines] == ["own", "expert"]
    # Bins of 0 to 0.5 and 0.5 to 1, drawn at their middles.
    last = charts["given tokens by probability (percent)"].lines[-1]
    assert [says for _, _, says in last.dots] == ["phase 2: 0.25, 25", "phase 2: 0.75, 75"]
