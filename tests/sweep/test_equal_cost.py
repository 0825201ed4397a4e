"""Accuracies at the budget of the cheapest run, by hand, and where there is nothing to compare."""

import pytest

from luffy_pl.errors import DataError
from luffy_pl.sweep.command import main
from luffy_pl.sweep.equal_cost import at_equal_cost
from sweep.test_summary import finished

HEAD = "cell,group,seed,phase,reward,entropy,length,generated_tokens,model_flops,accuracy/heldout\n"
# The cheapest run has generated 40 tokens; `long` had 40 of them after phase 3.
CURVES = HEAD + (
    "short-seed0,short,0,1,0,1,1,20,10,0.1\n"
    "short-seed0,short,0,2,0,1,1,40,20,0.2\n"
    "long-seed0,long,0,1,0,1,1,10,10,0.3\n"
    "long-seed0,long,0,2,0,1,1,30,20,0.4\n"
    "long-seed0,long,0,3,0,1,1,40,50,\n"
    "long-seed0,long,0,4,0,1,1,70,60,0.9\n"
    "long-seed1,long,1,1,0,1,1,30,20,0.8\n"
    "long-seed1,long,1,2,0,1,1,90,25,0.6\n"
)


def found(folder, text):
    (folder / "curves.csv").write_text(text)
    return at_equal_cost(folder)


def test_the_last_evaluation_within_the_budget_counts(tmp_path):
    tokens, flops = found(tmp_path, CURVES)
    assert (tokens.budget, flops.budget) == (40.0, 20.0)
    short, long = tokens.accuracies.values()
    assert (short.value, short.num_seeds) == (0.2, 1)
    # 0.4 and 0.8: s = 0.4 / sqrt(2), t of one degree 12.706
    assert (long.value, long.high) == pytest.approx((0.6, 0.6 + 12.706 * 0.2), abs=1e-3)
    assert flops.accuracies["long", "heldout"].value == pytest.approx(0.6)


def test_a_group_whose_first_evaluation_costs_more_is_left_out(tmp_path):
    text = CURVES.replace("long-seed0,long,0,1,0,1,1,10,10,0.3", "long-seed0,long,0,1,0,1,1,10,10,")
    text = text.replace("1,1,30,20,0.4", "1,1,30,20,")
    tokens, _ = found(tmp_path, text)
    assert list(tokens.accuracies) == [("short", "heldout")]


def test_a_run_that_samples_nothing_is_compared_as_it_ends(tmp_path):
    text = CURVES.replace(",40,20,0.2", ",0,20,0.2").replace(",20,10,0.1", ",0,10,0.1")
    tokens, flops = found(tmp_path, text)
    # The cheapest run that samples is seed 0 of `long`; its seed 1 had 30 tokens after phase 1.
    assert (tokens.budget, flops.budget) == (70.0, 20.0)
    assert tokens.accuracies["short", "heldout"].value == 0.2
    assert tokens.accuracies["long", "heldout"].value == pytest.approx((0.9 + 0.8) / 2)


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        pytest.param(HEAD, [], id="no rows"),
        pytest.param(CURVES.replace(",40,20,0.2", ",,20,0.2").replace(",20,10,0.1", ",,10,0.1"),
                     [20.0], id="a run without that ledger"),
        pytest.param(CURVES.replace("accuracy/heldout", "other"), [], id="an older table"),
    ],
)  # fmt: skip
def test_nothing_to_compare(tmp_path, text, budgets):
    assert [one.budget for one in found(tmp_path, text)] == budgets


def test_a_broken_number_is_named(tmp_path):
    with pytest.raises(DataError, match="accuracy/heldout is no number, got 'high'"):
        found(tmp_path, CURVES.replace("0.9", "high"))


def test_a_sweep_shows_it(grid_file, tmp_path, capsys):
    path = grid_file()
    finished(path, [0.5, 0.6, 0.7, 0.8])
    assert main([str(path), "--summarize", "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "at 400 generated tokens, the total of the cheapest run" in said
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "at 4T FLOPs, the total of the cheapest run" in page
    assert "<td>better</td><td>longer</td><td>2</td><td>75.0</td>" in page
