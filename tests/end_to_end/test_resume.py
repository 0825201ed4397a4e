"""A run that was killed and resumed is the run that was not."""

import pytest
from kill import kill_when
from same_run import differences

pytestmark = pytest.mark.long

SHORT = [
    "fit", "--config", "conf/quickstart.yaml",
    "--data.rollout.num_phases", "6",
    "--checkpoint.every_n_phases", "2",
]  # fmt: skip


@pytest.mark.case(9, 43)
def test_killed_and_resumed_gives_the_same_numbers(luffy_pl, start, tmp_path):
    whole = luffy_pl(*SHORT, "--run_dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    checkpoint = tmp_path / "cut" / "checkpoints" / "phase-000002"
    kill_when(start(*SHORT, "--run_dir", tmp_path / "cut"), checkpoint.exists)
    # Its own config.yaml says the rest.
    resumed = luffy_pl("fit", "--resume", "--run_dir", tmp_path / "cut")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differences(tmp_path / "whole", tmp_path / "cut") == []

    # With another seed it would be another run.
    again = luffy_pl(
        *SHORT, "--run_dir", tmp_path / "whole", "--resume", "true", "--seed_everything", "5"
    )
    assert again.returncode == 2
    assert "seed_everything" in again.stderr
