import dataclasses
import math

import pytest

from luffy_pl.errors import ConfigError, VerifierError
from luffy_pl.evaluation.metrics import BenchmarkMetric, distinct, extra_metrics, paid
from luffy_pl.records import Group, Prompt, Response, Verdict


def group(rewards, finish_reason="stop", status="ok", answers=None, lengths=None):
    def response(reward, answer, num_tokens):
        verdict = Verdict(
            correct=None if reward is None else reward > 0,
            status=status,
            tier="",
            extracted=answer,
            gold="1",
        )
        return Response("rollout", "", (5,) * num_tokens, finish_reason, verdict)

    prompt = Prompt(id="0", text="", token_ids=(1,), ground_truth="1")
    answers = answers or [None] * len(rewards)
    lengths = lengths or [3] * len(rewards)
    return Group(prompt, tuple(map(response, rewards, answers, lengths)), tuple(rewards))


def test_two_problems_of_four_answers_by_hand():
    metric = BenchmarkMetric(num_problems=2)
    metric.update([0, 1], [group([1.0, 0.0, 0.0, 1.0]), group([0.0, 0.0, 0.0, 0.0], "length")])
    row = metric.compute()
    assert (row["n"], row["k"]) == (2, 4)
    assert row["avg"] == 0.25  # (2/4 + 0/4) / 2
    assert row["pass"] == 0.5
    assert row["truncated"] == 0.5
    assert row["tokens"] == 3.0


def test_what_is_right_is_counted_whatever_it_was_paid():
    right = group([1.0, 0.0, 0.0], answers=["4", "4", "5"])
    paid = dataclasses.replace(right, rewards=(-0.5, 0.4, 0.4))
    metric = BenchmarkMetric(num_problems=1)
    metric.update([0], [paid])
    row = metric.compute()
    assert (row["avg"], row["maj"]) == (pytest.approx(1 / 3), 1.0)


def test_a_problem_without_grade_is_left_out_of_accuracy():
    metric = BenchmarkMetric(num_problems=2)
    metric.update([0], [group([1.0])])
    metric.update([1], [group([None], status="gold_bad")])
    row = metric.compute()
    assert (row["n"], row["avg"]) == (1, 1.0)


def test_split_into_chunks_changes_nothing():
    whole, parts = BenchmarkMetric(3), BenchmarkMetric(3)
    groups = [group([1.0, 0.0]), group([0.0, 0.0]), group([1.0, 1.0])]
    whole.update([0, 1, 2], groups)
    for index in (2, 0, 1):
        parts.update([index], [groups[index]])
    assert whole.compute() == parts.compute()


def test_majority_by_hand():
    metric = BenchmarkMetric(num_problems=5)
    groups = [
        group([1.0, 0.0, 1.0], answers=["4", "5", "4"]),  # 4 wins 2:1, right
        group([1.0, 0.0, 0.0], answers=["4", "5", "5"]),  # 5 wins 2:1, wrong
        group([0.0, 1.0, 0.0], answers=["5", "4", "6"]),  # a tie: 5 was first, wrong
        group([0.0, 0.0, 1.0], answers=[None, None, "4"]),  # no answer is no vote, right
        group([0.0, 0.0, 0.0]),  # nobody voted, wrong
    ]
    metric.update(range(5), groups)
    row = metric.compute()
    assert (row["n"], row["k"]) == (5, 3)
    assert row["maj"] == pytest.approx(2 / 5)
    assert row["avg"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3 + 1 / 3) / 5)
    assert row["pass"] == pytest.approx(4 / 5)


def test_every_number_has_its_interval():
    metric = BenchmarkMetric(num_problems=20)
    solved, failed = [1.0, 1.0], [0.0, 0.0]
    groups = [group(failed, "length", "no_answer") if n % 4 else group(solved) for n in range(20)]
    metric.update(range(20), groups)
    row = metric.compute()
    assert row["no_answer"] == row["truncated"] == 0.75
    for name in ("avg", "pass", "maj", "no_answer", "truncated", "timeout", "tokens"):
        prefix = "" if name == "avg" else f"{name}_"
        assert row[f"{prefix}low"] <= row[name] <= row[f"{prefix}high"], name
    # 0.75 +- 1.96 * sqrt(0.75 * 0.25 / 20) = 0.75 +- 0.19
    assert row["truncated_low"] == pytest.approx(0.56, abs=0.06)
    assert row["truncated_high"] == pytest.approx(0.94, abs=0.06)


def test_counts_of_each_answered_problem():
    metric = BenchmarkMetric(num_problems=3)
    metric.update([2, 0], [group([1.0, 0.0], answers=["4", "5"]), group([None], status="gold_bad")])
    counts = metric.problems()
    assert sorted(counts) == [0, 2]
    assert (counts[0]["samples"], counts[0]["graded"]) == (1, 0)
    assert (counts[2]["graded"], counts[2]["correct"], counts[2]["majority"]) == (2, 1, 1)
    assert (counts[2]["samples"], counts[2]["tokens"]) == (2, 6)


def test_lengths_of_right_and_wrong_answers_by_hand():
    metric = BenchmarkMetric(num_problems=3)
    metric.update([0], [group([1.0, 0.0, 1.0], lengths=[10, 40, 20])])
    metric.update([1], [group([1.0, 0.0, 0.0], lengths=[60, 20, 30])])
    metric.update([2], [group([None], status="gold_bad", lengths=[1000])])
    row = metric.compute()
    # Sums over sums, not the mean of the problems' means (15 + 60) / 2.
    assert row["tokens_correct"] == pytest.approx((10 + 20 + 60) / 3)
    assert row["tokens_incorrect"] == pytest.approx((40 + 20 + 30) / 3)
    assert (row["tokens_correct_n"], row["tokens_incorrect_n"]) == (3, 3)
    # A resample holds the first problem alone, the second alone, or both.
    assert (row["tokens_correct_low"], row["tokens_correct_high"]) == (15.0, 60.0)
    assert (row["tokens_incorrect_low"], row["tokens_incorrect_high"]) == (25.0, 40.0)


def test_there_may_be_no_right_answer():
    metric = BenchmarkMetric(num_problems=1)
    metric.update([0], [group([0.0, 0.0])])
    row = metric.compute()
    assert (row["tokens_correct"], row["tokens_correct_low"], row["tokens_correct_n"]) == (
        None,
        None,
        0,
    )
    assert (row["tokens_incorrect"], row["tokens_incorrect_n"]) == (3.0, 2)


def test_pass_at_every_power_of_two_by_hand():
    metric = BenchmarkMetric(num_problems=2)
    metric.update([0, 1], [group([1.0, 0, 0, 0, 0, 0]), group([0.0] * 6)])
    pass_at = metric.compute()["pass_at"]
    # One of 6 is right: k of them hold it with chance k / 6; the other problem is never solved.
    assert list(pass_at) == ["1", "2", "4"]
    for k, estimate in pass_at.items():
        assert estimate["value"] == pytest.approx(int(k) / 12)
        assert (estimate["low"], estimate["high"]) == (0.0, pytest.approx(int(k) / 6))
    assert metric.compute()["pass"] == pytest.approx(0.5)


def test_a_right_answer_counts_whatever_it_was_paid():
    right = group([1.0, 1.0], answers=["4", "4"])
    metric = BenchmarkMetric(num_problems=1)
    metric.update([0], [dataclasses.replace(right, rewards=(0.5, -1.0))])
    assert (metric.compute()["avg"], metric.compute()["maj"]) == (1.0, 1.0)


def test_a_metric_of_its_own_is_averaged_over_the_problems_it_says_something_about():
    values = iter([0.25, None, 0.75])
    metric = BenchmarkMetric(4, extra={"mine": lambda group: next(values), "paid": paid})
    metric.update([0, 1, 3], [group([1.0, 0.0]), group([0.0, 0.0]), group([None, None])])
    row = metric.compute()
    assert row["metrics"]["mine"]["value"] == 0.5
    assert row["metrics"]["mine"]["low"] <= 0.5 <= row["metrics"]["mine"]["high"]
    assert row["metrics"]["paid"]["value"] == 0.25
    assert "mine" not in row


def test_a_metric_that_says_nothing_is_no_number():
    metric = BenchmarkMetric(1, extra={"mine": lambda group: None})
    metric.update([0], [group([1.0])])
    assert math.isnan(metric.compute()["metrics"]["mine"]["value"])


@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda group: math.inf, "inf is not finite"), (lambda group: group.x, "AttributeError")],
)
def test_a_metric_that_fails_is_one_line_with_its_name(function, words):
    metric = BenchmarkMetric(1, extra={"mine": function})
    with pytest.raises(VerifierError, match=f"^metric mine: fails on .*'0'.*{words}"):
        metric.update([0], [group([1.0])])


def test_a_metric_cannot_have_the_name_of_a_usual_one():
    assert list(extra_metrics(["distinct"], where="x")) == ["distinct"]
    with pytest.raises(ConfigError, match="x: is a metric that every benchmark has, got 'avg'"):
        extra_metrics(["avg"], where="x")


def test_distinct_answers_are_counted_as_they_were_read():
    assert distinct(group([1.0, 0.0, 0.0, 0.0], answers=["4", "5", "5", "6"])) == 0.75
