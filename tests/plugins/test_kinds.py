"""Shaping, advantage, router and gate through the front door: by --plugin, and installed."""

import pytest
import torch
from recipes.small_runs import SMALL, SOLVED_SOMETIMES

from luffy_pl.registry import find, load_plugins
from luffy_pl.run_dir.read import read_lines
from plugins.conftest import HERE

SHAPING, ADVANTAGE, ROUTER, GATE = (
    HERE / f"{name}.py"
    for name in ("tanh_shaping", "leave_one_out_advantage", "solve_share_router", "range_gate")
)
SETTINGS = [
    "--model.objective.off_policy.shaping", "{kind: tanh, scale: 0.2}",
    "--data.advantage.kind", "leave_one_out",
    "--model.objective.on_policy.gate", "{kind: range, bound: 1.0000001}",
    "--data.rollout.routing", "{kind: solve_share, at_least: 0.5}",
    "--model.objective.sft.coef", "0.1",
]  # fmt: skip
PLUGINS = [word for file in (SHAPING, ADVANTAGE, ROUTER, GATE) for word in ("--plugin", file)]


@pytest.fixture
def fit(command_line, tmp_path):
    """Train for a phase; returns what the command said, and the numbers of the phase."""

    def run(*words, name="run"):
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", *SMALL, *SOLVED_SOMETIMES,
            "--data.rollout.num_phases", "1", "--run_dir", tmp_path / name, *words,
        )  # fmt: skip
        lines = read_lines(tmp_path / name / "metrics.jsonl") if done.returncode == 0 else []
        return done, {key: value for line in lines for key, value in line.items()}

    return run


def test_values_by_hand():
    load_plugins(map(str, (SHAPING, ADVANTAGE, GATE)))
    shaping = find("shaping", "tanh", where="kind")(scale=0.5)
    weight = shaping.off_policy(torch.tensor(0.25).log())
    assert weight.item() == pytest.approx(0.46211716)  # tanh(0.5)
    gate = find("gate", "range", where="kind")(bound=2.0)
    ratio = torch.tensor([0.4, 0.5, 2.0, 2.1])
    weight = gate.weigh(ratio, logprob_NT=ratio, old_logprob_NT=ratio, advantage_NT=ratio)
    assert weight.tolist() == [0.0, 0.5, 2.0, 0.0]
    advantage = find("advantage", "leave_one_out", where="kind")()
    found = advantage.compare(
        torch.tensor([1.0, 0.0, 0.0, 1.0, float("nan")]),
        group_N=torch.tensor([7, 7, 7, 8, 8]),
        is_off_policy_N=torch.zeros(5).bool(),
    )
    # 1 - 0; 0 - (1 + 0) / 2, twice; nobody to compare with.
    assert found[:4].tolist() == [1.0, -0.5, -0.5, 1.0]


def test_by_plugin_and_as_a_package(fit, install):
    done, by_plugin = fit(*SETTINGS, *PLUGINS)
    assert done.returncode == 0, done.stderr
    install(
        SHAPING, ADVANTAGE, ROUTER, GATE,
        gate={"range": f"{GATE.stem}:Range"},
        shaping={"tanh": f"{SHAPING.stem}:Tanh"},
        advantage={"leave_one_out": f"{ADVANTAGE.stem}:LeaveOneOut"},
        router={"solve_share": f"{ROUTER.stem}:SolveShare"},
    )  # fmt: skip
    done, installed = fit(*SETTINGS, name="installed")
    assert done.returncode == 0, done.stderr
    for name in ("actor/grad_norm", "actor/entropy_loss"):
        assert installed[name] == by_plugin[name]


def test_each_acts(fit):
    _, without = fit(*PLUGINS, name="without")
    for number, words in enumerate((SETTINGS[:2], SETTINGS[2:4], SETTINGS[4:6], SETTINGS[6:])):
        done, found = fit(*words, *PLUGINS, name=f"run{number}")
        assert done.returncode == 0, done.stderr
        assert found["actor/grad_norm"] != without["actor/grad_norm"], words


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model.objective.off_policy.shaping.kind", "tahn"], "is no shaping, got 'tahn'"),
        (["--model.objective.on_policy.gate.kind", "rage"], "is no gate, got 'rage'"),
        (["--data.advantage.kind", "leave_one_up"], "is no advantage, got 'leave_one_up'"),
        (["--data.rollout.routing.kind", "solve_shar"], "is no router, got 'solve_shar'"),
        (["--model.objective.off_policy.shaping", "{kind: tanh, scal: 1}"], "scal: unknown option"),
        (
            ["--model.objective.off_policy.shaping", "{kind: tanh, scale: 0}"],
            "scale: must be above 0",
        ),
    ],
)
def test_a_mistyped_name_is_one_line_with_the_nearest(fit, words, line):
    done, _ = fit(*words, *PLUGINS)
    [said] = done.stderr.splitlines()
    assert (done.returncode, line in said) == (2, True), said
    assert "did you mean" in said or "correct the value" in said
