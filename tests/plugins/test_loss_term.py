"""The term of the loss through the front door: by --plugin, and installed as a package."""

import pytest
from recipes.small_runs import SMALL, SOLVED_SOMETIMES

from luffy_pl.run_dir.read import read_lines
from plugins.conftest import HERE

FILE = HERE / "own_success_term.py"
TERMS = "--model.objective.terms"


@pytest.fixture
def fit(command_line, tmp_path):
    """Train for a phase of two steps; returns what the command said, and the phase's metrics."""

    def run(*words, name="run"):
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", *SMALL, *SOLVED_SOMETIMES,
            "--data.rollout.num_phases", "1", "--run_dir", tmp_path / name, *words,
        )  # fmt: skip
        lines = read_lines(tmp_path / name / "metrics.jsonl") if done.returncode == 0 else []
        return done, {key: value for line in lines for key, value in line.items()}

    return run


def test_the_term_acts_and_its_mean_is_logged(fit, install):
    _, without = fit("--plugin", FILE, name="without")
    done, metrics = fit("--plugin", FILE, f"{TERMS}.own_success.coef", "0.5")
    assert done.returncode == 0, done.stderr
    assert "actor/own_success_loss" not in without
    assert metrics["actor/own_success_loss"] > 0
    assert metrics["actor/grad_norm"] != without["actor/grad_norm"]

    install(FILE, loss_term={"own_success": f"{FILE.stem}:OwnSuccess"})
    done, installed = fit(f"{TERMS}.own_success.coef", "0.5", name="installed")
    assert done.returncode == 0, done.stderr
    assert installed["actor/own_success_loss"] == metrics["actor/own_success_loss"]
    assert installed["actor/grad_norm"] == metrics["actor/grad_norm"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [TERMS, "{own_sucess: {coef: 1}}"],
            "is no loss_term, got 'own_sucess'. Fix: did you mean own_success?",
        ),
        (
            [f"{TERMS}.own_success.coeff", "1"],
            "own_success.coeff: is no such setting. Fix: did you mean coef?",
        ),
    ],
)
def test_a_mistyped_name_is_one_line_with_the_nearest(fit, words, line):
    done, _ = fit("--plugin", FILE, *words)
    [said] = done.stderr.splitlines()
    assert (done.returncode, line in said) == (2, True), said
