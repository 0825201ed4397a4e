"""Run folders that f22e8fd wrote, the last version before the rooms were named, are still runs.

They are kept beside this file: `run_f22e8fd/README.md` says how they were made.
"""

import math
import shutil
from pathlib import Path

import pytest
import torch
from report.report_runs import Page
from same_run import evaluations, final_state, numbers, rollouts
from transformers import AutoModelForCausalLM

from luffy_pl.cli import main
from luffy_pl.run_dir.read import read_lines

PREFIX = "policy.language_model."
KEPT = Path(__file__).with_name("run_f22e8fd")
RUNS = ("luffy", "exgrpo")
# Another processor rounds in another way, and rollouts are written with four digits.
ROUNDING, WRITTEN = 1e-5, 2e-4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy to work in: the runs name their model and prompts relative to it."""
    shutil.copytree(KEPT, tmp_path / "kept", symlinks=True)
    monkeypatch.chdir(tmp_path / "kept")
    return tmp_path / "kept"


def without_intervals(run_dir):
    """Rows of the evaluations: intervals of shares were all by bootstrap."""
    shares = ("pass", "maj", "no_answer", "truncated", "timeout")
    ends = {"low", "high", *(f"{name}_{end}" for name in shares for end in ("low", "high"))}
    return {
        key: {name: value for name, value in row.items() if name not in {*ends, "pass_at"}}
        for key, row in evaluations(run_dir).items()
    }


def trained_state(run_dir):
    """The newest checkpoint without the settings in it, which may be written in another way."""
    state = final_state(run_dir)
    del state["luffy_pl"]["objective"], state["luffy_pl"]["optimizer"]
    return state


def differing(old, new, tolerance, place=""):
    """Where a value is not what it was. More may be logged and saved than was."""
    if isinstance(old, dict):
        for name, value in old.items():
            if name in new:
                yield from differing(value, new[name], tolerance, f"{place}.{name}")
            else:
                yield f"{place}.{name}: missing"
    elif isinstance(old, list | tuple):
        if len(old) != len(new):
            yield f"{place}: {len(old)} values, now {len(new)}"
        for number, pair in enumerate(zip(old, new, strict=False)):
            yield from differing(*pair, tolerance, f"{place}.{number}")
    elif isinstance(old, torch.Tensor):
        if not torch.allclose(old, new, rtol=tolerance, atol=tolerance):
            yield f"{place}: off by {(old - new).abs().max()}"
    elif isinstance(old, float):
        if not math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance):
            yield f"{place}: {old}, now {new}"
    elif old != new:
        yield f"{place}: {old!r}, now {new!r}"


@pytest.mark.parametrize("name", RUNS)
def test_it_resumes_and_ends_as_the_old_code_ended_it(folder, name, caplog):
    # As a crash in phase 3 leaves it.
    shutil.rmtree(folder / name / "checkpoints" / "phase-000004")
    assert main(["fit", "--resume", "true", "--run_dir", name]) == 0
    assert "resume: after phase 2" in caplog.messages
    for read in (numbers, rollouts, without_intervals, trained_state):
        old, new = read(KEPT / name), read(folder / name)
        tolerance = WRITTEN if read is rollouts else ROUNDING
        assert list(differing(old, new, tolerance)) == []


def test_it_is_reported(folder, capsys):
    assert main(["report", *RUNS]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in RUNS:
        before, *_, after = read_lines(folder / name / "evaluation.jsonl")
        accuracy, cost = [words for words in lines if words[:2] == [name, "sums"]]
        assert accuracy[3:5] == [f"{100 * row['avg']:.1f}" for row in (before, after)]
        assert cost[6] == "8"  # optimizer steps


def test_it_is_viewed(folder):
    assert main(["view", *RUNS, "--html", "page.html"]) == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    shown = {
        answer["response"]
        for one in Page(page).data()
        for group in one["groups"]
        for answer in group["answers"]
    }
    for name in RUNS:
        assert f">{name}<" in page
        rows = read_lines(folder / name / "rollouts" / "phase-000004.jsonl")
        assert {row["response"] for row in rows} <= shown


def test_it_is_exported(folder):
    assert main(["export", "luffy", "--out", "exported"]) == 0
    exported = AutoModelForCausalLM.from_pretrained(folder / "exported").state_dict()
    file = folder / "luffy" / "checkpoints" / "phase-000004" / "state.ckpt"
    trained = torch.load(file, weights_only=True)["state_dict"]
    assert len(trained) > 5
    for name, weight in trained.items():
        assert torch.equal(exported[name.removeprefix(PREFIX)], weight)
