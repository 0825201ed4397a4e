"""Every recipe trains: three phases in the miniature world, through the command line."""

import json
import math

import pytest

from luffy_pl.run_dir.read import read_metrics
from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES

pytestmark = pytest.mark.recipes

THREE_PHASES = [*SMALL, "--data.rollout.num_phases", "3"]
HALF = ["--data.rollout.prompts_per_phase", "4"]
# What brings a recipe's own part about within three phases.
SETTINGS = {
    "luffy": [],
    "luffy_recorded_behaviour": [],
    "on_policy": [],
    "grpo_std": SOLVED_SOMETIMES,
    "dr_grpo": SOLVED_SOMETIMES,
    "dapo": SOLVED_SOMETIMES,
    "sft": [],
    "sft_then_rl": ["--data.rollout.sft_phases", "2"],
    "rl_with_sft_loss": [],
    "prefix_guidance": [],
    "prefix_rft": [],
    "relift": ["--data.rollout.imitation_buffer", "8"],
    "chord_mu": [],
    "chord_phi": [],
    "srft": [],
    "hpt": [*SOLVED_SOMETIMES, *HALF],
    "exgrpo": EXGRPO,
    "truncated_importance_sampling": [],
    "kl_in_loss": [],
    "kl_in_reward": SOLVED_SOMETIMES,
    "adaptive_entropy": [],
    "gspo": SOLVED_SOMETIMES,
    "cispo": SOLVED_SOMETIMES,
    "sapo": SOLVED_SOMETIMES,
    "dppo": SOLVED_SOMETIMES,
    "rl_plus": [],
    "max_rl": SOLVED_SOMETIMES,
    "dft": [],
    "opd": [],
    "kdrl": [*SOLVED_SOMETIMES, *HALF],
    "opsd": [],
    "rlsd": SOLVED_SOMETIMES,
    "sdft": [],
    "sdpo": [*SOLVED_SOMETIMES, *HALF],
    "ghpo": [],
    "pope": ["--data.rollout.guidance.share.levels", "[0.75]", *SOLVED_SOMETIMES],
    "guide": [],
    "critique": SOLVED_SOMETIMES,
    "uft": [],
    "bread": [],
    "gkd": [],
}
NEAR_ANOTHER = (
    "cispo", "sapo", "max_rl", "dft", "ghpo", "pope", "guide", "critique", "uft", "bread",
    "dr_grpo", "grpo_std", "kl_in_loss", "kl_in_reward", "gkd", "gspo", "dppo", "rl_plus",
    "chord_phi", "prefix_guidance",
)  # fmt: skip
"""Recipes that differ from one that is trained by a pure function alone, which is held by hand, or
that another test of this file trains."""
RESUMED = ("adaptive_entropy", "dapo", "exgrpo", "relift", "rlsd", "sft_then_rl")
"""Recipes that test_resume.py trains."""
SERVED = ("opd", "rlsd")
"""Recipes that test_served_teachers.py trains."""
ELSEWHERE = {*NEAR_ANOTHER, *RESUMED, *SERVED}


@pytest.fixture(scope="module")
def trained():
    """Metrics and rows by recipe and settings."""
    return {}


@pytest.fixture
def train(command_line, tmp_path, trained):
    """Train a recipe, once with the same settings."""

    def run(*recipe_and_settings):
        if recipe_and_settings not in trained:
            recipe, *settings = recipe_and_settings
            files = ["--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml"]
            run_dir = tmp_path / f"run-{len(trained)}"
            finished = command_line("fit", *files, *THREE_PHASES, *settings, "--run_dir", run_dir)
            assert finished.returncode == 0, finished.stderr
            metrics, _ = read_metrics(run_dir / "metrics.jsonl")
            trained[recipe_and_settings] = metrics, list(rows(run_dir))
        return trained[recipe_and_settings]

    return run


def rows(run_dir):
    """Every row that was written, with its phase."""
    for file in sorted((run_dir / "rollouts").glob("*.jsonl")):
        for line in file.read_text().split("\n"):
            if line:
                yield {"phase": int(file.stem.removeprefix("phase-")), **json.loads(line)}


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=[pytest.mark.long] * (name in ELSEWHERE)) for name in SETTINGS],
)
def test_three_phases(train, recipe):
    metrics, _ = train(recipe, *SETTINGS[recipe])
    norms = series(metrics, "actor/grad_norm")
    assert len(norms) == 3
    assert all(math.isfinite(norm) for norm in norms)
    assert max(norms) > 0


def test_the_distance_from_the_reference_is_logged(train):
    metrics, _ = train("kl_in_loss")
    # The policy begins as its reference; within the first phase it has made a step.
    distances = series(metrics, "actor/kl_loss")
    assert 0 < distances[0] < distances[2]
    metrics, _ = train("kl_in_reward", *SOLVED_SOMETIMES)
    distances = series(metrics, "critic/kl")
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert abs(distances[2]) > 1e-6


def test_ghpo_tells_more_until_an_answer_is_right(train):
    metrics, rows = train("ghpo")
    told = {row["hint"]["share"] for row in rows if "hint" in row}
    assert 0.75 in told <= {0.25, 0.5, 0.75}
    assert max(series(metrics, "hint/solved")) > 0
    assert {row["source"] for row in rows} == {"rollout"}
    for row in rows:
        if "hint" in row:
            assert row["prompt"].startswith("<user><book>")
            assert row["hint"]["text"] in row["prompt"]


def test_a_divergence_is_logged_and_costs_a_pass(train):
    metrics, _ = train("gkd")
    distances = series(metrics, "actor/divergence_loss")
    assert distances[0] > distances[2] > 0
    without, _ = train("luffy")
    # A pass of a teacher is one of three: forward alone beside forward and backward, at least.
    flops = metrics[3]["ledger/model_flops"] / without[3]["ledger/model_flops"]
    assert 1.1 < flops < 1.5


def series(metrics, name):
    return [metrics[phase][name] for phase in (1, 2, 3)]


def sources(rows, phase):
    return {row["source"] for row in rows if row["phase"] == phase}


def test_sft_samples_nothing(train):
    _, rows = train("sft")
    assert sources(rows, 3) == {"expert"}


def test_sft_then_rl_changes_what_a_group_holds(train):
    _, rows = train("sft_then_rl", "--data.rollout.sft_phases", "2")
    assert [sources(rows, phase) for phase in (1, 2, 3)] == [{"expert"}, {"expert"}, {"rollout"}]


@pytest.mark.parametrize(
    "strategy",
    [
        "fixed",
        "cosine",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("random", "linear", "reverse_linear")
        ),
    ],
)
def test_prefixes(train, strategy):
    settings = [
        "--data.rollout.prefix.strategy", strategy,
        *([] if strategy in ("random", "fixed") else ["--data.rollout.prefix.phases", "4"]),
        "--data.rollout.prefix.max_ratio", "0.6",
        "--data.rollout.expert_traces_per_group", "2",
    ]  # fmt: skip
    _, rows = train("prefix_guidance", *settings)
    assert "prefix" in {row["source"] for row in rows}
    assert all(len([r for r in rows if r["phase"] == phase]) == 8 * 8 for phase in (1, 2, 3))


def test_exgrpo_shows_earlier_successes(train):
    metrics, rows = train("exgrpo", *EXGRPO)
    assert metrics[3]["experience/prompts"] > 0
    replayed = [row for row in rows if row["source"] == "replay"]
    assert replayed
    earlier = {row["response"] for row in rows if row["source"] == "rollout" and row["reward"] == 1}
    # A replayed answer is one the policy gave, and it is graded again.
    assert all(row["reward"] == 1 for row in replayed)
    assert {row["response"] for row in replayed} <= earlier


def test_dynamic_sampling_leaves_fewer_uninformative_groups(train):
    shares = [
        uninformative(
            train("dapo", *SOLVED_SOMETIMES, *HALF, "--data.rollout.refill_tries", tries)[0]
        )
        for tries in ("0", "4")
    ]
    assert shares[1] < shares[0] / 2


def uninformative(metrics):
    return sum(series(metrics, "batch/solve_none") + series(metrics, "batch/solve_all")) / 3


def test_relift_imitates_once_its_buffer_is_full(train):
    # The base solves none of these prompts: eight wait after every phase.
    _, rows = train("relift", "--data.rollout.imitation_buffer", "16")
    assert [sources(rows, phase) for phase in (1, 2, 3)] == [
        {"rollout"},
        {"rollout", "expert"},
        {"rollout"},
    ]
