"""The quickstart and its comparison, whole, as the README tells a person to run them.

What each run must show is in conf/quickstart.yaml's world: experiments/miniature has all seeds.
"""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from readme_commands import arguments

from luffy_pl.run_dir.read import read_lines, read_run

pytestmark = pytest.mark.slow

QUICKSTART = ["fit", "--config", "conf/quickstart.yaml"]
# Phases of each run. At 40 the quickstart is at 100%: what is late then is late.
PHASES = {"quickstart": 60, "no_shaping": 40, "on_policy": 40}
# The base is evaluated by the quickstart, and what was late is late with the held-out problems.
SHORTER = [
    "--data.rollout.num_phases", 40, "--evaluation.every_n_phases", 40,
    "--evaluation.before_training", "false",
    "--data.benchmarks", '[{"name": "heldout", "source": {"path": "bundled:heldout.jsonl"}}]',
]  # fmt: skip
WITHOUT_VLLM = ["--data.engine.kind", "hf"]


def fit_arguments(name, folder):
    """As in the README; the comparisons shorter, one without vLLM."""
    if name == "quickstart":
        return [*QUICKSTART, "--run_dir", folder / name]
    return [*arguments(name, folder), *SHORTER, *(WITHOUT_VLLM if name == "on_policy" else [])]


@pytest.fixture(scope="module")
def runs(luffy_pl, true_start, tmp_path_factory):
    """Two at a time, by name: finished process and run. The quickstart as a person starts it."""
    folder = tmp_path_factory.mktemp("quickstart")

    def fit(name):
        run = true_start if name == "quickstart" else luffy_pl
        done = run(*fit_arguments(name, folder), timeout=1500)
        assert done.returncode == 0, done.stderr[-2000:]
        return done, read_run(folder / name)

    with ThreadPoolExecutor(max_workers=2) as pool:
        finished = dict(zip(PHASES, pool.map(fit, PHASES), strict=True))
    return folder, finished


def accuracy(run, benchmark, phase):
    [row] = [row for row in run.evaluation(phase) if row["benchmark"] == benchmark]
    return row["avg"]


def entropy_change(run, name):
    """Mean of the last three phases minus mean of the first three, in nats."""
    _, values = run.series(f"entropy/{name}_nats")
    return sum(values[-3:]) / 3 - sum(values[:3]) / 3


def test_the_base_gives_up(runs):
    _, run = runs[1]["quickstart"]
    assert accuracy(run, "heldout", 0) == 0.0
    assert accuracy(run, "longer", 0) == 0.0


def test_luffy_learns_to_go_on(runs):
    _, run = runs[1]["quickstart"]
    assert accuracy(run, "heldout", 40) >= 0.95
    assert accuracy(run, "heldout", 60) >= 0.95
    assert accuracy(run, "longer", 60) >= 0.8
    assert entropy_change(run, "opener") > 0


def test_on_policy_stays_where_it_was(runs):
    assert accuracy(runs[1]["on_policy"][1], "heldout", 40) <= 0.05


def test_without_shaping_it_is_late_and_loses_entropy(runs):
    _, run = runs[1]["no_shaping"]
    assert accuracy(run, "heldout", 40) <= 0.2
    assert entropy_change(run, "rollout") < -0.01
    assert entropy_change(run, "opener") < -0.1


@pytest.mark.long
def test_clipped_expert_tokens_are_late(luffy_pl, tmp_path):
    clipped = [*QUICKSTART, "--config", "conf/ablation/clip_off_policy.yaml"]
    done = luffy_pl(*clipped, *SHORTER, *WITHOUT_VLLM, "--run_dir", tmp_path, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert accuracy(read_run(tmp_path), "heldout", 40) <= 0.2


def test_every_number_is_finite_and_every_sync_proved(runs):
    for name, (_, run) in runs[1].items():
        assert sorted(run.metrics) == list(range(PHASES[name] + 1))
        for row in run.metrics.values():
            assert all(math.isfinite(value) for value in row.values()), name
            assert row["sync/logprob_gap_nats"] < 1e-4


def test_an_ablation_is_named_in_the_run(runs):
    assert runs[1]["no_shaping"][1].ablation == "no_shaping"
    assert runs[1]["quickstart"][1].ablation is None


def test_what_a_person_finds(runs):
    folder, finished = runs
    done, _ = finished["quickstart"]
    assert "before" in done.stdout
    assert "luffy-pl view" in done.stdout
    assert (folder / "quickstart" / "curves.png").stat().st_size > 10_000
    assert list((folder / "quickstart" / "tb").glob("events*"))
    assert (folder / "quickstart" / "config.yaml").exists()
    rows = read_lines(folder / "quickstart" / "rollouts" / "phase-000060.jsonl")
    assert [row["source"] for row in rows[:8]] == ["rollout"] * 7 + ["expert"]


def test_validate_reproduces_the_final_table(runs, luffy_pl):
    folder, finished = runs
    done = luffy_pl(*arguments("validate", folder))
    assert done.returncode == 0, done.stderr[-2000:]
    again = read_lines(folder / "quickstart" / "validate.jsonl")
    assert again == finished["quickstart"][1].evaluation(60)


def test_view_writes_its_page(runs, luffy_pl):
    folder, _ = runs
    done = luffy_pl(*arguments("view", folder), env={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert done.returncode == 0, done.stderr
    page = (folder / "quickstart" / "report.html").read_text()
    assert 'id="values-' in page
    assert "seconds of a phase" in page


def test_report_compares_the_runs(runs, luffy_pl):
    folder, _ = runs
    done = luffy_pl(*arguments("report", folder))
    assert done.returncode == 0, done.stderr
    for name in ("quickstart", "no_shaping", "on_policy"):
        assert name in done.stdout
    assert (folder / "comparison.png").stat().st_size > 10_000


def test_predict_writes_graded_answers(runs, luffy_pl, tmp_path):
    folder, _ = runs
    done = luffy_pl(
        "predict", "--config", "conf/quickstart.yaml", "--run_dir", tmp_path,
        "--ckpt_path", folder / "quickstart" / "checkpoints" / "last.ckpt",
        "--data.engine.kind", "hf",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    files = sorted((tmp_path / "predictions").glob("*.jsonl"))
    assert [file.name.split("-")[0] for file in files] == ["heldout", "longer", "shorter"]
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(rows) == 256
    assert sum(row["reward"] for row in rows) / 256 >= 0.95
