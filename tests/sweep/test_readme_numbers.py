"""Every number in the table of an experiment is one that its committed CSV files give."""

import csv
import re
from pathlib import Path

import pytest

from luffy_pl.sweep.interval import over_seeds

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
# By row of a table, what `group` is called in results.csv; the first row may be the base.
BASE = "before"
SFT_THEN_RL = {
    "before": BASE, "LUFFY": "luffy", "SFT": "alone-correct",
    "SFT, mean of means": "alone-mean_of_means",
    "SFT, micro-batches dropped": "alone-later_dropped", "SFT, then RL": "rl-correct",
    "SFT, mean of means, then RL": "rl-mean_of_means",
    "SFT, micro-batches dropped, then RL": "rl-later_dropped",
}  # fmt: skip
ROWS = {
    "01_methods": {
        "before": BASE, "LUFFY": "luffy", "SFT, then RL": "sft_then_rl",
        "RL with SFT loss": "rl_with_sft_loss", "SFT": "sft", "on-policy": "on_policy",
        "SFT, 15 phases": "sft_15_phases", "SFT, a quarter of the rate": "sft_slow",
    },
    "01_methods/middle": {
        "before": BASE, "LUFFY": "luffy", "SFT, then RL": "sft_then_rl",
        "RL with SFT loss": "rl_with_sft_loss", "SFT": "sft", "on-policy": "on_policy",
    },
    "02_shaping_entropy": {
        "shaping (LUFFY)": "shaping", "no shaping": "no_shaping",
        "min(p, 0.2)": "clip_off_policy", "on-policy": "on_policy",
    },
    "03_ablation_table": {
        "before": BASE, "mixed: no shaping, clip": "mixed", "+ shaping, clip": "mixed_shaping",
        "+ shaping, no clip (LUFFY)": "luffy", "on-policy, clip": "on_policy",
        "on-policy, shaping, clip": "on_policy_shaping", "on-policy, no clip": "on_policy_no_clip",
    },
    "03_ablation_table/middle": {
        "before": BASE, "mixed: no shaping, clip": "mixed", "+ shaping, no clip (LUFFY)": "luffy",
        "on-policy, clip": "on_policy", "on-policy, shaping, clip": "on_policy_shaping",
    },
    "04_gamma": {gamma: gamma for gamma in ("0.05", "0.1", "0.2", "0.3", "0.5")},
    "05_expert_share": {
        "no expert": "share_0", "1 of 8 (LUFFY)": "share_1", "2 of 8": "share_2",
        "4 of 8": "share_4", "first quarter of the trace": "prefix_0.25",
        "first half": "prefix_0.5", "first three quarters": "prefix_0.75",
        "random part": "prefix_random",
    },
    "06_follow_ups": {
        "LUFFY": "luffy", "LUFFY, recorded behaviour": "luffy_recorded", "ReLIFT": "relift",
        "SRFT": "srft", "CHORD-mu": "chord_mu", "Prefix-RFT": "prefix_rft", "HPT": "hpt",
        "CHORD-phi": "chord_phi", "prefix guidance": "prefix_guidance", "DAPO": "dapo",
        "ExGRPO": "exgrpo",
    },
    "06_follow_ups/middle": {
        "before": BASE, "LUFFY": "luffy", "ReLIFT": "relift", "SRFT": "srft", "HPT": "hpt",
    },
    "07_difficulty": {
        "before": BASE, "easy LUFFY": "easy-luffy", "easy on-policy": "easy-on_policy",
        "hard LUFFY": "hard-luffy", "hard on-policy": "hard-on_policy",
    },
    "07_difficulty/middle": {
        "before": BASE, "easy LUFFY": "easy-luffy", "easy on-policy": "easy-on_policy",
        "hard LUFFY": "hard-luffy", "hard on-policy": "hard-on_policy",
    },
    "11_sft_then_rl": SFT_THEN_RL,
    "11_sft_then_rl/middle": {
        **SFT_THEN_RL, "SFT, then RL, as many FLOPs as LUFFY": "rl-equal_flops",
    },
    "12_teachers": {
        "OPD": "opd", "GKD": "gkd", "KDRL": "kdrl", "OPSD": "opsd", "SDPO": "sdpo", "RLSD": "rlsd",
        "LUFFY": "luffy", "Dr. GRPO": "dr_grpo", "on-policy": "on_policy",
    },
    "13_hints": {
        "GHPO": "ghpo", "POPE": "pope", "Guide": "guide", "Critique": "critique", "BREAD": "bread",
        "LUFFY": "luffy", "Dr. GRPO": "dr_grpo", "on-policy": "on_policy",
    },
}  # fmt: skip
LEAKS = {
    "OPSD": "opsd", "RLSD": "rlsd",
    "OPSD, sometimes": "opsd_sometimes", "RLSD, sometimes": "rlsd_sometimes",
}  # fmt: skip
# Rows of the table of 11 beside follow-ups: the experiment with both worlds of them, and the group.
BESIDE = {
    "SFT, then RL": ("11_sft_then_rl", "rl-correct"), "LUFFY": ("11_sft_then_rl", "luffy"),
    "ReLIFT": ("06_follow_ups", "relift"), "SRFT": ("06_follow_ups", "srft"),
    "HPT": ("06_follow_ups", "hpt"),
}  # fmt: skip
COSTS = {"at equal tokens": "generated_tokens", "at equal FLOPs": "model_flops"}
ENTROPIES = {
    "entropy of rollouts": "entropy/rollout_nats", "entropy at openers": "entropy/opener_nats",
    "at openers": "entropy/opener_nats",
}  # fmt: skip
BENCHMARKS = ("heldout", "longer", "shorter", "words", "easy", "middle", "hard")
# What stands before the table of an experiment's first world, and before that of its second.
FOUND, FOUND_IN_MIDDLE = "**Found.**", "**Found, with a middle.**"


def read(name, file="results.csv"):
    with (EXPERIMENTS / name / file).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def table(name, number=0):
    """Rows of a table of what was found: name of the row, and cells by heading."""
    name, _, world = name.partition("/")
    found = (EXPERIMENTS / name / "README.md").read_text().partition(FOUND)[2]
    first, _, second = found.partition(FOUND_IN_MIDDLE)
    found = second if world else first
    tables = [block for block in re.split(r"\n\n+", found) if block.startswith("|")]
    lines = tables[number].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns = {cell.partition(" (")[0]: place for place, cell in enumerate(head)}
    labels = [place for column, place in columns.items() if column in ("trained on", "method")]
    labels = labels if len(labels) == 2 else [0]
    for row in rows:
        cells = {column: row[place] for column, place in columns.items() if place not in labels}
        yield " ".join(row[place] for place in labels).strip(), cells


def numbers(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def seed_interval(values):
    """Mean over seeds in percent, and its interval where they differ."""
    mean = over_seeds([100 * value for value in values])
    ends = [] if mean.low is None else [max(0.0, mean.low), min(100.0, mean.high)]
    return [mean.value, *ends]


def percentages(rows, benchmark, *, is_base):
    """Mean over seeds, and its interval where they differ, in percent."""
    column = "before" if is_base else "after"
    return seed_interval([float(row[column]) for row in rows if row["benchmark"] == benchmark])


def entropy(rows, column, *, is_base):
    of_cell = {
        row["cell"]: float(row[f"{column}_{'first' if is_base else 'last'}"]) for row in rows
    }
    return [sum(of_cell.values()) / len(of_cell)]


def half_right(name, group):
    """The phase in which half of the rollouts are first right, of each seed that gets there."""
    first = {}
    for row in read(name, "curves.csv"):
        if row["group"] == group and float(row["reward"] or 0) >= 0.5:
            first.setdefault(row["seed"], int(row["phase"]))
    return sorted(first.values())


def by_cell(rows):
    found = {}
    for row in rows:
        found.setdefault(row["cell"], []).append(row)
    return found


def at_equal_cost(name, group, cost):
    """Accuracy at the last evaluation within what the cheapest run has spent."""
    cells = by_cell(read(name, "curves.csv"))
    budget = min(float(rows[-1][cost]) for rows in cells.values())
    within = [
        [row for row in rows if row["accuracy/heldout"] and float(row[cost]) <= budget][-1]
        for rows in cells.values()
        if rows[0]["group"] == group
    ]
    return seed_interval([float(row["accuracy/heldout"]) for row in within])


def half_solved(name, group):
    """The phase after which half of the held-out problems are first solved, of each seed."""
    first = [
        next((int(r["phase"]) for r in rows if float(r["accuracy/heldout"] or 0) >= 0.5), None)
        for rows in by_cell(read(name, "curves.csv")).values()
        if rows[0]["group"] == group
    ]
    return sorted(phase for phase in first if phase is not None)


def at_the_end(rows, group, column):
    """Mean of the last five phases of each run."""
    of_seed = {}
    for row in rows:
        if row["group"] == group:
            of_seed.setdefault(row["seed"], []).append(float(row[column]))
    return seed_interval([sum(values[-5:]) / 5 for values in of_seed.values()])


def test_leakage_is_what_the_csv_gives():
    described = dict(table("12_teachers", 1))
    assert list(described) == list(LEAKS)
    for label, cells in described.items():
        for column, cell in cells.items():
            found = at_the_end(read("12_teachers", "leakage.csv"), LEAKS[label], column)
            assert numbers(cell) == pytest.approx(found, abs=0.0501), (label, column, found)


def flops(name, group):
    """What a run of a group has cost at its end, in 10^9 FLOPs, mean over seeds."""
    last = {
        row["seed"]: float(row["model_flops"])
        for row in read(name, "curves.csv")
        if row["group"] == group
    }
    return sum(last.values()) / len(last) / 1e9


def test_the_table_beside_follow_ups_is_what_the_csv_gives():
    described = dict(table("11_sft_then_rl/middle", 1))
    assert list(described) == list(BESIDE)
    for label, cells in described.items():
        name, group = BESIDE[label]
        for column, cell in cells.items():
            folder = name if "first" in column else f"{name}/middle"
            if "FLOPs" in column:
                assert numbers(cell) == pytest.approx([flops(folder, group)], abs=0.51), column
                continue
            rows = [row for row in read(folder) if row["group"] == group]
            found = percentages(rows, "longer", is_base=False)
            assert numbers(cell) == pytest.approx(found, abs=0.0501), (label, column, found)


@pytest.mark.parametrize("name", ROWS)
def test_a_table_is_what_the_csv_gives(name):
    results = read(name)
    described = list(table(name))
    assert [label for label, _ in described] == list(ROWS[name])
    for label, cells in described:
        group = ROWS[name][label]
        rows = [row for row in results if group in (BASE, row["group"])]
        for column, cell in cells.items():
            where = f"{name}: {label}, {column}: {cell}"
            if column in BENCHMARKS:
                found = percentages(rows, column, is_base=group == BASE)
                shown = numbers(cell)
                assert len(shown) in (1, len(found)), (where, found)
                assert shown == pytest.approx(found[: len(shown)], abs=0.0501), (where, found)
            elif column in COSTS:
                found = at_equal_cost(name, group, COSTS[column])
                assert numbers(cell) == pytest.approx(found, abs=0.0501), (where, found)
            elif column == "reward at the end":
                found = at_the_end(read(name, "curves.csv"), group, "reward")
                assert numbers(cell) == pytest.approx(found, abs=0.0501), (where, found)
            elif column == "half solved after phase":
                found = half_solved(name, group)
                assert numbers(cell) == sorted({*found[:1], *found[-1:]}), (where, found)
            elif column in ENTROPIES:
                found = entropy(rows, ENTROPIES[column], is_base=group == BASE)
                digits = len(cell.partition(".")[2])
                assert numbers(cell) == pytest.approx(found, abs=0.51 * 10**-digits), (where, found)
            elif column == "10^9 FLOPs" and group != BASE:
                assert numbers(cell) == pytest.approx([flops(name, group)], abs=0.51), where
            elif column == "half right in phase" and group != BASE and cell:
                found = half_right(name, group)
                is_reached = not cell.startswith(("never", "not within"))
                assert is_reached == bool(found), (where, found)
                if "," in cell:
                    assert sorted(numbers(cell)) == found, where
                elif found and "before" not in cell:
                    assert min(found) <= numbers(cell)[0] <= max(found), (where, found)


def test_the_world_with_a_middle_tells_methods_apart():
    of_group = {}
    for row in read("01_methods/middle"):
        if row["benchmark"] == "heldout":
            of_group.setdefault(row["group"], []).append(row)
    after = {name: percentages(rows, "heldout", is_base=False) for name, rows in of_group.items()}
    (before,) = percentages(of_group["on_policy"], "heldout", is_base=True)
    assert after["on_policy"][0] - before >= 15
    best = max(after, key=lambda name: after[name][0])
    worst = min(after, key=lambda name: after[name][0])
    assert after[best][0] - after[worst][0] >= 10
    # The mean, or the mean and the interval where seeds differ.
    assert after[best][-2:][0] > after[worst][-1]
