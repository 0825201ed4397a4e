"""The policy computes in the trainer's precision, whoever asks: a step of Lightning or not."""

import sys
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES
from training.test_gradient_invariance import tiny_policy

from luffy_pl.callbacks.weight_sync import BFLOAT16_NATS, FLOAT32_NATS, usual_tolerance
from luffy_pl.policy.policy import Policy

STEP = {"before_update", "_backward", "probe"}
# Recipe, further settings, and who asks the policy in it.
RUNS = {
    "kl_in_reward": (
        [*SOLVED_SOMETIMES, "--expert.every_n_phases", "1", "--data.rollout.num_phases", "1"],
        {*STEP, "reward_penalty", "part_gradient"},
    ),
    "exgrpo": ([*EXGRPO, "--data.rollout.num_phases", "3"], {*STEP, "mean_entropies"}),
}
NAMES = set.union(*(names for _, names in RUNS.values()))


@pytest.fixture
def asked(monkeypatch):
    """Who asked, and the type of matrix products inside, of each pass."""
    seen = set()
    forward = Policy.forward

    def look(self, *args, **kwargs):
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_name not in NAMES:
            frame = frame.f_back
        is_on = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_on else torch.float32
        if frame is not None:  # else it is compared with its model, before there is a trainer
            seen.add((frame.f_code.co_name, dtype))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Policy, "forward", look)
    return seen


@pytest.mark.parametrize("recipe", RUNS)
@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)]
)
def test_every_pass_is_in_the_precision_of_the_trainer(
    command_line, tmp_path, asked, recipe, precision, dtype
):
    settings, names = RUNS[recipe]
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml",
        *SMALL, *settings, "--trainer.precision", precision,
        "--run_dir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert asked == {(name, dtype) for name in names}


@pytest.mark.parametrize(
    ("context", "dtype", "expected"),
    [
        (nullcontext, torch.float32, FLOAT32_NATS),
        (partial(torch.autocast, "cpu", torch.bfloat16), torch.float32, BFLOAT16_NATS),
        (nullcontext, torch.bfloat16, BFLOAT16_NATS),
    ],
)
def test_the_probe_allows_for_the_rounding_of_the_policy(context, dtype, expected):
    policy = tiny_policy().to(dtype)
    policy.context = context
    assert usual_tolerance(SimpleNamespace(policy=policy, device="cpu")) == expected
