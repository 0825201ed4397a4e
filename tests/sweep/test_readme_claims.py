"""Every number of the README's section on what was found is one that committed CSV files give."""

import re
from pathlib import Path

import pytest

from sweep.test_readme_numbers import at_the_end, numbers, percentages, read
from sweep.test_real_model import accuracy

README = Path(__file__).parents[2] / "README.md"
LINK = re.compile(r"\[[^]]*\]\(([^)]*)\)")


def after(name, group, benchmark="heldout"):
    """Mean of a group in percent, and its interval where seeds differ."""
    rows = [row for row in read(name) if row["group"] == group]
    return percentages(rows, benchmark, is_base=False)


def of_run(name, cell, *, is_base=False):
    """Accuracy of one run in percent, and its interval over problems."""
    return accuracy([row for row in read(name) if row["cell"] == cell], is_base=is_base)


# By the experiment that a claim leads to: its numbers in the order of the text.
CLAIMS = {
    "11_sft_then_rl": lambda: [
        after("11_sft_then_rl", "luffy", "longer"),
        after("11_sft_then_rl", "rl-correct", "longer"),
        after("11_sft_then_rl/middle", "luffy", "longer"),
        after("11_sft_then_rl/middle", "rl-correct", "longer"),
    ],
    "01_methods": lambda: [
        after("01_methods", "luffy"),
        after("01_methods/middle", "luffy"),
        after("01_methods", "on_policy"),
        after("01_methods/middle", "on_policy"),
    ],
    "12_teachers": lambda: [
        after("12_teachers", "opd"),
        after("12_teachers", "gkd"),
        after("12_teachers", "opsd"),
        at_the_end(read("12_teachers", "leakage.csv"), "opsd", "named"),
    ],
    "13_hints": lambda: [
        at_the_end(read("13_hints", "curves.csv"), "ghpo", "reward"),
        after("13_hints", "ghpo"),
    ],
    "14_real_model": lambda: [
        of_run("14_real_model", "on_policy-seed0", is_base=True),
        of_run("14_real_model", "on_policy-seed0"),
        of_run("14_real_model", "on_policy-seed1"),
        of_run("14_real_model", "luffy-seed0"),
        of_run("14_real_model", "luffy-seed1"),
        of_run("14_real_model", "sft_then_rl-seed0"),
        of_run("14_real_model", "sft_then_rl-seed1"),
    ],
}


def claims():
    """The sentences by the experiment that each leads to."""
    section = README.read_text().partition("\n## What was found\n")[2].partition("\n## ")[0]
    items = re.split(r"\n- ", section)[1:]
    return {re.search(r"experiments/(\w+)/", LINK.search(item)[1])[1]: item for item in items}


def test_every_claim_has_its_numbers_and_its_experiment():
    assert set(claims()) == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_what_the_csv_gives(name):
    shown = numbers(LINK.sub("", claims()[name]))
    assert shown == pytest.approx([one for found in CLAIMS[name]() for one in found], abs=0.0501)
