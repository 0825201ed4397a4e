from luffy_pl.callbacks.released_metrics import group_pairs
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.records import Group, Prompt, Response, Verdict


def group(number, *rows):
    """Rows of (source, correct, reward)."""
    responses = tuple(
        Response(source, "", (5, 1), "stop", Verdict(correct, "ok", "", "5", "5"))
        for source, correct, _ in rows
    )
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
