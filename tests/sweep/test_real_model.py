"""The README of experiment 14 gives what its two tables give, run by run."""

import pytest

from luffy_pl.evaluation.statistics import wilson
from sweep.test_readme_numbers import numbers, read, table

NAME = "14_real_model"
METHODS = {
    "on-policy": "on_policy", "LUFFY": "luffy", "SFT, then RL": "sft_then_rl", "OPSD": "opsd",
}  # fmt: skip
ENDS = 4
"""Phases at each end of a run that its rewards are averaged over."""


def cell_of(label):
    """`LUFFY, seed 1` is the cell luffy-seed1."""
    method, _, seed = label.rpartition(", seed ")
    return f"{METHODS[method]}-seed{seed}"


def percent(*shares):
    return [100 * float(share) for share in shares]


def accuracy(rows, *, is_base):
    """Accuracy and its interval over problems, in percent."""
    if not is_base:
        return percent(rows[0]["after"], rows[0]["low"], rows[0]["high"])
    before, num = float(rows[0]["before"]), int(rows[0]["n"])
    found = wilson(round(before * num), num)
    return percent(found.value, found.low, found.high)


def mean_reward(phases):
    """In percent, over phases that sample."""
    return [100 * sum(float(row["reward"]) for row in phases) / len(phases)]


def found_in(column, results, curves, *, is_base):
    if column == "accuracy":
        return accuracy(results, is_base=is_base)
    sampled = [row for row in curves if row["reward"]]
    if column == "first rewards":
        return mean_reward(sampled[:ENDS])
    if column == "last rewards":
        return mean_reward(sampled[-ENDS:])
    cost = {"sampled tokens": "generated_tokens", "10^12 FLOPs": "model_flops"}[column]
    return [float(curves[-1][cost]) / (1 if column == "sampled tokens" else 1e12)]


def test_a_run_is_described_by_its_rows():
    described = dict(table(NAME))
    of_cell = {file: {} for file in ("results.csv", "curves.csv")}
    for file, cells in of_cell.items():
        for row in read(NAME, file):
            cells.setdefault(row["cell"], []).append(row)
    results, curves = of_cell.values()
    assert [cell_of(label) for label in described if label != "before"] == list(results)
    measured = [row for rows in results.values() for row in rows if row["before"]]
    assert len({row["before"] for row in measured}) == 1
    for label, cells in described.items():
        is_base = label == "before"
        rows = measured if is_base else results[cell_of(label)]
        for column, cell in cells.items():
            if cell:
                phases = [] if is_base else curves[cell_of(label)]
                found = found_in(column, rows, phases, is_base=is_base)
                precision = 0.51 if column == "sampled tokens" else 0.0501
                assert numbers(cell) == pytest.approx(found, abs=precision), (label, column, found)


def test_the_base_is_between_a_tenth_and_six_tenths():
    (row, *_) = [row for row in read(NAME) if row["before"]]
    assert int(row["n"]) >= 300
    assert 0.1 <= float(row["before"]) <= 0.6
