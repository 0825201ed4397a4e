import random
import string
import time

import pytest
from reward_cases import ALL, CHEAP, HANGING

from luffy_pl.answer.compare import compare_cheaply, is_gradable
from luffy_pl.answer.gate import refusal


@pytest.mark.parametrize(("answer", "gold", "equal"), CHEAP)
def test_decided_without_sympy(answer, gold, equal):
    assert compare_cheaply(answer, gold).equal is equal


@pytest.mark.parametrize(("answer", "gold", "equal"), ALL)
def test_the_cheap_tiers_never_contradict_the_truth(answer, gold, equal):
    assert compare_cheaply(answer, gold).equal in {equal, None}


@pytest.mark.parametrize("gold", sorted({gold for _, gold, _ in ALL}))
def test_every_gold_equals_itself(gold):
    assert compare_cheaply(gold, gold).equal is True
    assert is_gradable(gold) is not False


@pytest.mark.parametrize(
    ("answer", "gold", "tier"),
    [
        ("x+1", "x + 1", "string"),
        ("1/2", "0.5", "rational"),
        ("(C)", "C", "choice"),
        ("even", "odd", "text"),
        ("(1,2)", "(1,3)", "parts"),
        ("1" * 600, "5", "gate:length"),
    ],
)
def test_the_tier_that_decided_is_named(answer, gold, tier):
    assert compare_cheaply(answer, gold).tier == tier


@pytest.mark.parametrize("gold", ["", " ", "?", "$$", "the graph is a parabola", r"\frac{1}{0}"])
def test_ungradable_golds(gold):
    assert is_gradable(gold) is False


@pytest.mark.parametrize("gold", ["5", "C", "yes", r"\text{two thirds}", r"\emptyset", "1:00"])
def test_golds_that_need_no_sympy(gold):
    assert is_gradable(gold) is True


@pytest.mark.parametrize("answer", HANGING, ids=lambda answer: answer[:20])
def test_the_gate_refuses_what_hangs(answer):
    decision = compare_cheaply(answer, r"2\sqrt{3}")
    assert decision.equal is False or refusal(answer, r"2\sqrt{3}")


@pytest.mark.parametrize(
    "answer",
    ["x^{10}+1", "e^{x^2}", "100!", "(x^{12})^{3}", "e^{e^{x}}", r"\binom{10}{3}", "2^{100}"],
)
def test_the_gate_lets_mathematics_pass(answer):
    assert refusal(answer, "5") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("e^{e^{e^{e^{3}}}}", "tall"),
        ("x^x^x^x^2", "tall"),
        ("(10^{999})^{999}", "exponent"),
        (r"\binom{10^6}{10^5}", "binomial"),
    ],
)
def test_the_rule_that_refuses_is_named(answer, why):
    assert refusal(answer, "5") == why


def test_a_gold_with_the_feature_lifts_the_rule():
    assert refusal("2^{3^{5}}", "5") == "tower"
    assert refusal("2^{3^{5}}", "3^{2^{7}}") is None


def random_texts(count):
    generator = random.Random(0)
    pieces = [*string.printable, r"\frac", r"\boxed{", "{", "}", "^", r"\text{", r"\sqrt", "_", "é"]
    pieces += [r"\begin{pmatrix}", r"\\", "&", r"\end{pmatrix}", r"\pm", r"\cup", "=", ",", "\x00"]
    for number in range(count):
        length = generator.randint(0, 200)
        if number % 2:
            yield bytes(generator.randrange(256) for _ in range(length)).decode("latin-1")
        else:
            yield "".join(generator.choices(pieces, k=length))


@pytest.mark.slow
def test_random_texts_raise_nothing_and_are_cheap():
    start = time.process_time()
    for text in random_texts(2000):
        compare_cheaply(text, "5")
        compare_cheaply(text, r"\{1,2\}")
        compare_cheaply("(1,2)", text)
        is_gradable(text)
        refusal(text, "5")
    assert time.process_time() - start < 60


@pytest.mark.parametrize(
    "piece", ["(", "{", "1,", "x=", r"\pm", "^", r"\text{", "1 ", "-", "a_", "$"]
)
def test_repetition_costs_little(piece):
    text = piece * (510 // len(piece))
    start = time.process_time()
    compare_cheaply(text, "5")
    compare_cheaply(text, r"(1,2)")
    is_gradable(text)
    assert time.process_time() - start < 1.0
