"""`luffy-pl report --compare`: two runs on the same problems."""

import json

import pytest

from luffy_pl.evaluation.problems import ProblemOutcome, read_problems, write_problems


def counts(correct, graded=2):
    return {
        number: {"graded": graded, "correct": solved, "samples": 2}
        for number, solved in enumerate(correct)
    }


def write_run(
    run_dir, correct, *, phase=0, folder="evaluation", benchmark="heldout", first_id=0, graded=2,
    out_of_distribution=False,
):  # fmt: skip
    write_problems(
        run_dir / folder,
        benchmark,
        phase=phase,
        ids=[f"p/{first_id + number}" for number in range(len(correct))],
        counts=counts(correct, graded),
        out_of_distribution=out_of_distribution,
    )


@pytest.fixture
def runs(tmp_path):
    """30 of 100 problems better by one of two answers, 10 worse: +10 points, +- 5.9."""
    before, after = tmp_path / "before", tmp_path / "after"
    write_run(before, [0] * 30 + [2] * 10 + [1] * 60)
    write_run(after, [1] * 30 + [1] * 10 + [1] * 60)
    return before, after


def table_row(stdout, benchmark):
    [line] = [line for line in stdout.splitlines() if line.strip().startswith(benchmark)]
    return line.split()


def test_a_difference_that_excludes_zero(command_line, runs):
    before, after = runs
    done = command_line("report", "--compare", before, after)
    assert done.returncode == 0, done.stderr
    # (30 * 0.5 - 10 * 0.5) / 100 = 10 points; deviation sqrt(0.1 - 0.01) = 0.3, interval +- 5.9.
    _, n, k, mean_before, mean_after, difference, low, high, excludes = table_row(
        done.stdout, "heldout"
    )
    assert (n, k, mean_before, mean_after, difference, excludes) == (
        "100",
        "2",
        "40.0",
        "50.0",
        "+10.0",
        "yes",
    )
    assert float(low.strip("[,")) == pytest.approx(4.1, abs=1)
    assert float(high.strip("]")) == pytest.approx(15.9, abs=1)
    other_way = table_row(command_line("report", "--compare", after, before).stdout, "heldout")
    assert other_way[5] == "-10.0"
    assert "average" not in done.stdout


def test_only_shared_and_graded_problems_count(command_line, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    write_run(before, [0, 0, 0, 2], first_id=0)
    write_run(after, [2, 2, 2, 2], first_id=2)
    write_run(after, [1], benchmark="only_here")
    ungraded = {"prompt_id": "p/9", "graded": 0, "correct": 0}
    for run in (before, after):
        with (run / "evaluation" / "phase-000000-heldout.jsonl").open("a") as file:
            file.write(json.dumps(ungraded) + "\n")
    done = command_line("report", "--compare", before, after)
    assert table_row(done.stdout, "heldout")[1:6] == ["2", "2", "50.0", "100.0", "+50.0"]
    assert "only_here" not in done.stdout


def test_the_last_phase_counts(tmp_path):
    for phase in (999_999, 1_000_000):
        write_run(tmp_path, [int(phase == 1_000_000)], phase=phase)
        write_run(tmp_path, [2], phase=phase, benchmark="a-b")
    half, whole = ProblemOutcome(2, 1, False), ProblemOutcome(2, 2, False)
    assert read_problems(tmp_path) == {"heldout": {"p/0": half}, "a-b": {"p/0": whole}}


def test_a_run_of_validate_can_be_compared(tmp_path):
    write_run(tmp_path, [1], folder="validate", out_of_distribution=True)
    assert read_problems(tmp_path) == {"heldout": {"p/0": ProblemOutcome(2, 1, True)}}


def test_averages_in_and_out_of_distribution(command_line, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for run, is_after in ((before, 0), (after, 1)):
        write_run(run, [is_after] * 10, benchmark="small")
        write_run(run, [1] * 90, benchmark="large")
        write_run(run, [0] * 5, benchmark="far", out_of_distribution=True)
        write_run(run, [2 - 2 * is_after], benchmark="far2", out_of_distribution=True)
        write_run(run, [4] * 3, benchmark="often", graded=8, out_of_distribution=True)
    done = command_line("report", "--compare", before, after)
    # Each benchmark weighs the same: (50 + 0) / 2 and (0 - 100 + 0) / 3.
    assert table_row(done.stdout, "average ")[1:6] == ["100", "2", "25.0", "50.0", "+25.0"]
    assert table_row(done.stdout, "average_ood")[1:6] == ["9", "2-8", "50.0", "16.7", "-33.3"]
    # Every problem of a benchmark moved alike, so what unseen ones may do decides: at most a share
    # 3.84 / 13.84 of those of `small` and 3.84 / 93.84 of `large`, each from -100 to +100.
    assert table_row(done.stdout, "average ")[6:] == ["[+2.1,", "+34.0]", "yes"]


def test_what_cannot_be_compared(command_line, runs, tmp_path):
    before, _ = runs
    empty = command_line("report", "--compare", before, tmp_path)
    assert (empty.returncode, "holds no evaluation" in empty.stderr) == (8, True)
    write_run(tmp_path / "other", [1], benchmark="other")
    apart = command_line("report", "--compare", before, tmp_path / "other")
    assert (apart.returncode, "no problem in common" in apart.stderr) == (8, True)
    assert command_line("report", "--compare", before).returncode == 2
