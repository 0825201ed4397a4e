"""A recipe that remembers earlier phases goes on after a checkpoint as if it had not stopped."""

import shutil

import pytest
from same_run import differences

from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES

pytestmark = pytest.mark.recipes

FOUR_PHASES = [
    *SMALL, "--data.rollout.num_phases", "4", "--checkpoint.every_n_phases", "2",
]  # fmt: skip
IN_A_SECOND_ROUND = ["--data.rollout.guidance.share", "{per_prompt: {start: 0.5}}"]
STATEFUL = {
    "exgrpo": EXGRPO,
    "relift": ["--data.rollout.imitation_buffer", "20"],
    "dapo": SOLVED_SOMETIMES,
    "sft_then_rl": ["--data.rollout.sft_phases", "3"],
    "adaptive_entropy": [],
    "kl_in_reward": SOLVED_SOMETIMES,
    "ghpo": IN_A_SECOND_ROUND,
}


@pytest.mark.parametrize("recipe", STATEFUL)
def test_the_second_half_is_the_same_after_a_resume(command_line, tmp_path, recipe):
    files = ["--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml"]

    def fit(run_dir, *more):
        finished = command_line(
            "fit", *files, *FOUR_PHASES, *STATEFUL[recipe], "--run_dir", run_dir, *more
        )
        assert finished.returncode == 0, finished.stderr

    fit(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    # As a crash in phase 3 leaves it.
    checkpoints = tmp_path / "cut" / "checkpoints"
    shutil.rmtree(checkpoints / "phase-000004")
    fit(tmp_path / "cut", "--resume", "true")
    assert differences(tmp_path / "whole", tmp_path / "cut") == []
