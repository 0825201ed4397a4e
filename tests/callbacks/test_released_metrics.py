from types import SimpleNamespace

import pytest
import torch

from luffy_pl.callbacks.released_metrics import actor_pairs, group_pairs
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.records import Group, Prompt, Response, Verdict


def group(number, *rows):
    """Rows of (source, correct, reward)."""
    responses = tuple(
        Response(
            source, "", (5, 1), "stop", Verdict(correct, "ok", "", "5", "5"),
            num_given=2 if source == "expert" else 0,
        )
        for source, correct, _ in rows
    )  # fmt: skip
    return Group(Prompt(str(number), "", (1,), "5"), responses, tuple(r for _, _, r in rows))


def test_solved_is_what_is_right_and_not_what_is_paid():
    groups = [
        group(0, ("rollout", False, 0.1), ("expert", True, 0.6)),
        group(1, ("rollout", False, 0.1), ("expert", False, 0.1)),
        group(2, ("rollout", True, -0.2), ("expert", True, 1.1)),
    ]
    batch = collate(groups, phase=0, temperature=1.0, steps=plan_steps(3, 1))
    counted = {name: float(value[0]) for name, value in group_pairs(batch).items()}
    assert counted == {
        "batch/solve_none": 1,
        "batch/solve_all": 1,
        "batch/solved": 3,
        "batch/on_solved": 1,
        "batch/off_solved": 2,
        "batch/only_expert_solves": 1,
    }


@pytest.mark.parametrize(
    ("old_logprob", "old_of_given", "expected"),
    # Two rollouts of two tokens that became likelier by 0.1 nats each, one trace by 0.3.
    [("sampler", 0.0, -0.1), ("trainer", -1.0, (4 * -0.1 + 2 * -0.3) / 6)],
)
def test_the_kl_of_an_update_counts_tokens_whose_probability_before_is_known(
    old_logprob, old_of_given, expected
):
    rows = (("rollout", False, 0.0), ("rollout", True, 1.0), ("expert", True, 1.0))
    batch = collate([group(0, *rows)], phase=0, temperature=1.0, steps=plan_steps(1, 1))
    mask_NT, given_NT = batch.response_mask_NT, batch.off_policy_mask_NT
    assert given_NT.sum() == 2
    old_NT = torch.where(given_NT, old_of_given, -1.0) * mask_NT
    new_NT = torch.where(given_NT, -0.7, -0.9) * mask_NT
    outputs = {
        "logprob_NT": new_NT, "old_logprob_NT": old_NT, "entropy_NT": torch.zeros_like(new_NT),
        "grad_norm": torch.ones(()), "term_means": {},
    }  # fmt: skip
    module = SimpleNamespace(objective=ObjectiveConfig(old_logprob=old_logprob))
    total, count = actor_pairs(module, outputs, batch)["actor/ppo_kl"]
    assert (total / count).item() == pytest.approx(expected)
