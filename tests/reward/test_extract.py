import time

import pytest

from luffy_pl.reward.extract import Extraction, extract_answer

NO_ANSWER = Extraction(None, "no_answer")
TRUNCATED = Extraction(None, "truncated")


def boxed(text):
    return extract_answer(text, think_end=None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So $\boxed{5}$.", "5"),
        (r"\boxed {5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"First \boxed{7}. Wait, no: \boxed{8}.", "8"),
        (r"\boxed{5}\boxed{}", "5"),
        (r"\boxed{5} because \boxed{ }", "5"),
        (r"\boxed{1 and then nothing closes it, but \boxed{5} does", "5"),
        (r"} } \boxed{5} {", "5"),
    ],
)
def test_the_last_closed_box_with_content(text, answer):
    assert boxed(text) == Extraction(answer, "ok")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"$x=\boxed{2}$ or $x=\boxed{-2}$", "2, -2"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3"),
        (r"\boxed{1} \text{ or } \boxed{2}", "1, 2"),
        (r"\boxed{5}, \boxed{5}", "5"),  # said twice, one answer
        (r"\boxed{7} hence \boxed{1}, \boxed{2}", "1, 2"),
    ],
)
def test_boxes_in_a_row_are_one_answer(text, answer):
    assert boxed(text).answer == answer


@pytest.mark.parametrize(
    "text", ["", "5", "the answer is 5", r"\boxed{}", r"\boxedx{5}", r"\boxed"]
)
def test_no_box_is_no_answer(text):
    assert boxed(text) == NO_ANSWER


@pytest.mark.parametrize("text", [r"so \boxed{\frac{1}{2", r"\boxed{5}, no: \boxed{6", r"\boxed{"])
def test_a_last_box_that_never_closes_is_truncated(text):
    assert boxed(text) == TRUNCATED


def test_only_what_follows_the_last_end_of_thinking_counts():
    assert extract_answer(r"\boxed{1}</think>\boxed{2}") == Extraction("2", "ok")
    assert extract_answer(r"a</think>\boxed{1}</think>\boxed{2}") == Extraction("2", "ok")
    assert extract_answer(r"\boxed{1}</think> nothing") == NO_ANSWER


def test_unfinished_thinking_has_no_answer():
    assert extract_answer(r"<think> surely \boxed{5}") == NO_ANSWER


def test_another_end_of_thinking():
    assert extract_answer(r"x[/T]\boxed{5}", think_end="[/T]").answer == "5"


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        ("hash", "work\n#### 41\nno\n#### 42", "42"),
        ("hash", "#### 1,234", "1,234"),
        ("hash", "see ### 3", None),
        ("hash", "####", None),
        ("choice", "ANSWER: A or rather\nANSWER: C", "C"),
        ("choice", "**Answer: (d)**", "D"),
        ("choice", "answer: Because", None),
        ("final", "✅ Final Answer: **73**", "73"),
        ("final", "The answer is 3.5.", "3.5"),
        ("final", "Final Answer: The final answer is $4x$. I hope it is correct.", "4x"),
        ("final", "The final answer is 4.5. I hope it is correct.", "4.5"),
        ("final", "nothing", None),
    ],
)
def test_other_forms(form, text, answer):
    assert extract_answer(text, think_end=None, forms=(form,)).answer == answer
    assert boxed(text) == NO_ANSWER  # unless asked for, only boxes count


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed5", "5"),
        (r"so \boxed 12.5.", "12.5"),
        (r"\boxed C", "C"),
        (r"a \boxed answer", None),
    ],
)
def test_a_box_without_braces_holds_a_number_or_a_letter(text, answer):
    assert boxed(text).answer == answer


def test_forms_are_tried_in_order():
    text = "\\boxed{1}\n#### 2"
    assert extract_answer(text, think_end=None, forms=("boxed", "hash")).answer == "1"
    assert extract_answer(text, think_end=None, forms=("hash", "boxed")).answer == "2"


HOSTILE = [
    r"\boxed{" * 15_000,
    "{" * 100_000,
    r"\boxed{1}" * 10_000,
    r"\boxed{1}, " * 10_000,
    r"\boxed" + " " * 100_000,
    r"\boxed{1}" + " and" * 20_000 + r"\boxed{2}",
    r"\( " * 30_000,
    "answer is " * 10_000,
    "ANSWER: " * 10_000,
    "#### " * 20_000,
    "\\" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_hostile_texts_take_linear_time(text):
    start = time.process_time()
    extract_answer(text, think_end=None, forms=("boxed", "hash", "choice", "final"))
    assert time.process_time() - start < 2.0


def test_a_long_trace_costs_milliseconds():
    text = r"Let \frac{a}{b} be {given}. " * 1100 + r"</think> Thus $\boxed{42}$."
    assert len(text) > 30_000
    start = time.process_time()
    for _ in range(20):
        assert extract_answer(text).answer == "42"
    assert (time.process_time() - start) / 20 < 0.01
