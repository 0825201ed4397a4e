import threading

import psutil
import pytest
from reward_cases import ALL, HANGING

from luffy_pl.errors import ConfigError
from luffy_pl.records import Verdict
from luffy_pl.reward.math_verifier import MathVerifier
from luffy_pl.reward.reward import RewardConfig, build_verifier


def boxed(answer):
    return rf"So $\boxed{{{answer}}}$."


@pytest.fixture
def offline(monkeypatch):
    """A verifier whose pool must not be used."""

    def forbidden(self):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("luffy_pl.reward.pool.ComparisonPool._start", forbidden)
    return MathVerifier(think_end=None)


def test_all_cases(verifier):
    verdicts = verifier.grade([(boxed(answer), gold) for answer, gold, _ in ALL])
    wrong = [
        (case, verdict.status, verdict.tier)
        for case, verdict in zip(ALL, verdicts, strict=True)
        if verdict.correct is not case[2]
    ]
    assert not wrong


def test_one_and_two_workers_agree(verifier):
    items = [(boxed(answer), gold) for answer, gold, _ in ALL]
    both = verifier.grade(items)
    with MathVerifier(think_end=None, workers=1) as single:
        alone = single.grade(items)
    assert [(v.correct, v.status, v.tier) for v in alone] == [
        (v.correct, v.status, v.tier) for v in both
    ]


def test_cheap_answers_start_no_process(offline):
    before = {child.pid for child in psutil.Process().children()}
    items = [(boxed("0.5"), r"\frac12"), (boxed("(C)"), "C"), (boxed("yes"), "no"), ("", "5")]
    verdicts = offline.grade(items)
    assert [v.correct for v in verdicts] == [True, True, False, False]
    assert {child.pid for child in psutil.Process().children()} <= before


def test_hanging_answers_are_refused_without_a_process(offline):
    verdicts = offline.grade([(boxed(answer), "5") for answer in HANGING])
    assert {v.correct for v in verdicts} == {False}
    assert sum(v.status == "refused" for v in verdicts) > 12


@pytest.mark.parametrize("gold", ["the graph is a parabola", "", r"\frac{1}{0}", "?"])
def test_an_unusable_gold_grades_nobody(offline, gold):
    assert not offline.check_gold(gold)
    for text in ("", boxed("5"), boxed(gold), r"\boxed{5"):
        verdict = offline.grade([(text, gold)])[0]
        assert (verdict.correct, verdict.status) == (None, "gold_bad")


def test_a_gold_that_only_sympy_can_refuse(verifier):
    assert verifier.check_golds([r"\leq 3", r"\sqrt{2}+x"]) == [False, True]
    assert verifier.grade([(boxed(r"\leq 3"), r"\leq 3")])[0].correct is None


def test_the_record_says_what_was_read_and_why(offline):
    verdict = offline.grade([(boxed(r"\frac12"), "0.5")])[0]
    assert verdict == Verdict(True, "ok", "rational", r"\frac12", "0.5", verdict.ms)
    assert offline.grade([(r"\boxed{1", "5")])[0].status == "truncated"
    assert offline.grade([("nothing", "5")])[0].status == "no_answer"
    assert offline.grade([(boxed("9^{9^9}"), "5")])[0].tier == "gate:tower"


def test_a_pair_is_graded_once(verifier, monkeypatch):
    asked = []
    compare = verifier._pool.compare
    monkeypatch.setattr(
        verifier._pool, "compare", lambda pairs, *rest: asked.extend(pairs) or compare(pairs, *rest)
    )
    items = [(boxed("z^2+2z+1"), "(z+1)^2"), (boxed("z^2+3z"), "(z+1)^2")] * 4
    first = verifier.grade(items)
    again = verifier.grade(items)
    assert [v.correct for v in first] == [True, False] * 4
    assert first == again
    assert asked == [
        ("(z+1)^2", "(z+1)^2"),
        ("z^2+2z+1", "(z+1)^2"),
        ("z^2+3z", "(z+1)^2"),
    ]


def test_progress_counts_every_item(verifier):
    seen = []
    items = [(boxed("5"), "5"), (boxed("w+1"), "1+w"), (boxed("5"), "5"), ("", "5")]
    verifier.grade(items, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (4, 4)


def test_grading_from_another_thread(verifier):
    verdicts = []
    items = [(boxed("v^2-1"), "(v-1)(v+1)")]
    thread = threading.Thread(target=lambda: verdicts.extend(verifier.grade(items)))
    thread.start()
    thread.join()
    assert verdicts[0].correct is True


def test_nothing_to_grade(offline):
    assert offline.grade([]) == []


def test_the_answer_counts_only_behind_the_thinking():
    verifier = build_verifier(RewardConfig())
    assert verifier.grade([(r"\boxed{5}", "5")])[0].status == "no_answer"
    assert verifier.grade([(r"\boxed{4}</think>\boxed{5}", "5")])[0].correct is True


def test_multiple_choice():
    verifier = build_verifier(RewardConfig(think_end=None, forms=("choice", "boxed")))
    texts = ["ANSWER: C", "Answer: (C)", boxed(r"\text{C}"), "ANSWER: C. Or ANSWER: D", "C"]
    verdicts = verifier.grade([(text, "C") for text in texts])
    assert [v.correct for v in verdicts] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("think_end", ""), ("forms", ()), ("forms", ("box",)), ("workers", 0), ("timeout_s", 0)],
)
def test_settings_out_of_bounds_name_themselves(name, value):
    with pytest.raises(ConfigError, match=rf"^data\.reward\.{name}: "):
        RewardConfig(**{name: value})
