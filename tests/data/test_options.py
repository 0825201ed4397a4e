"""Multiple choice: options below the question, and where the right one ends up."""

from collections import Counter

import pytest

from luffy_pl.data.options import with_options
from luffy_pl.data.prompts import load_prompts
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError, DataError

# The columns of TIGER-Lab/MMLU-Pro.
MMLU_PRO = {
    "question_id": 70,
    "question": "Which is even?",
    "options": ["one", "two", "three"],
    "answer": "B",
    "answer_index": 1,
    "cot_content": "",
    "category": "math",
    "src": "ours",
}

# The columns of allenai/ai2_arc.
ARC = {
    "id": "Ours_1",
    "question": "Which is even?",
    "choices": {"text": ["one", "two", "three"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}
# Columns of Idavidrein/gpqa, of which no example may appear in public: these words are ours.
GPQA = {
    "Record ID": "rec1",
    "Question": "Which is even?",
    "Correct Answer": "two\n",
    "Incorrect Answer 1": "one",
    "Incorrect Answer 2": "three",
    "Incorrect Answer 3": " five",
    "Explanation": "It is.",
}


def test_options_stand_below_the_question_in_their_order(tokenizer, write_jsonl):
    (prompt,) = load_prompts(PromptSource(write_jsonl(MMLU_PRO)), tokenizer).prompts
    assert prompt.text == "<bos>[user]Which is even?\n\nA) one\nB) two\nC) three[assistant]"
    assert (prompt.id, prompt.ground_truth) == ("70", "B")


def test_ten_options_reach_the_letter_j():
    options = [f"option {number}" for number in range(10)]
    text, gold = with_options("?", "J", options=options, seed=None, where="x")
    assert text.endswith("\nI) option 8\nJ) option 9")
    assert gold == "J"


def right_option(seed, question="Which is even?"):
    text, gold = with_options(
        question, "B", options=MMLU_PRO["options"], seed=seed, where="x"
    )  # fmt: skip
    lines = dict(line.split(") ") for line in text.splitlines()[2:])
    assert sorted(lines.values()) == sorted(MMLU_PRO["options"])
    assert lines[gold] == "two"
    return gold


def test_the_gold_follows_its_option_to_every_place():
    golds = Counter(right_option(seed) for seed in range(300))
    assert set(golds) == {"A", "B", "C"}
    assert min(golds.values()) > 70  # 100 each, standard deviation 8


def test_a_seed_gives_one_order_and_questions_have_their_own():
    assert [right_option(seed) for seed in range(20)] == [right_option(seed) for seed in range(20)]
    assert len({right_option(0, f"question {number}") for number in range(20)}) == 3


def test_the_seed_is_a_setting_of_the_source(tokenizer, write_jsonl):
    path = write_jsonl(MMLU_PRO)
    golds = {
        load_prompts(PromptSource(path, options_seed=seed), tokenizer).prompts[0].ground_truth
        for seed in range(20)
    }
    assert golds == {"A", "B", "C"}


def test_a_seed_without_options(tokenizer, write_jsonl):
    path = write_jsonl({"prompt": "2+2?", "answer": "4"})
    with pytest.raises(ConfigError, match=r"rows\.jsonl: options_seed is set where no column"):
        load_prompts(PromptSource(path, options_seed=1), tokenizer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "D"}, "answer is not one of the letters ABC, got 'D'"),
        ({"answer": "AB"}, "answer is not one of the letters ABC, got 'AB'"),
        ({"options": ["only"]}, "a question has 2 to 10 options, got 1"),
        ({"options": ["x"] * 11}, "a question has 2 to 10 options, got 11"),
        ({"options": "A) x B) y"}, "options are not a list of texts, got 'str'"),
        ({"options": None}, "options are not a list of texts, got 'NoneType'"),
        ({"options": [1, 2]}, "options are not a list of texts, got 'list'"),
    ],
)
def test_a_bad_row_is_named(tokenizer, write_jsonl, change, words):
    path = write_jsonl(MMLU_PRO, MMLU_PRO | change)
    with pytest.raises(DataError) as caught:
        load_prompts(PromptSource(path), tokenizer)
    assert str(caught.value).startswith(f"{path}:2: {words}. Fix: ")


@pytest.mark.parametrize("labels", [["A", "B", "C"], ["1", "2", "3"]])
def test_labels_of_arc_become_letters(tokenizer, write_jsonl, labels):
    row = ARC | {"choices": ARC["choices"] | {"label": labels}, "answerKey": labels[1]}
    (prompt,) = load_prompts(PromptSource(write_jsonl(row)), tokenizer).prompts
    assert prompt.text == "<bos>[user]Which is even?\n\nA) one\nB) two\nC) three[assistant]"
    assert (prompt.id, prompt.ground_truth) == ("Ours_1", "B")


@pytest.mark.parametrize("row", [ARC, GPQA])
def test_the_gold_of_arc_and_gpqa_follows_its_option(tokenizer, write_jsonl, row):
    path, golds = write_jsonl(row), set()
    for seed in [*range(30), *range(30)]:
        (prompt,) = load_prompts(PromptSource(path, options_seed=seed), tokenizer).prompts
        assert prompt.text.splitlines()["ABCD".index(prompt.ground_truth) + 2][:6] == (
            f"{prompt.ground_truth}) two"
        )
        golds.add((seed, prompt.ground_truth))
    assert len(golds) == 30  # a seed gives one order
    assert {gold for _, gold in golds} == set("ABCD" if row is GPQA else "ABC")


def test_gpqa_offers_four_options_without_the_space_around_them(tokenizer, write_jsonl):
    source = PromptSource(write_jsonl(GPQA), options_seed=0)
    (prompt,) = load_prompts(source, tokenizer).prompts
    lines = prompt.text.removesuffix("[assistant]").splitlines()[2:]
    assert sorted(line[3:] for line in lines) == ["five", "one", "three", "two"]
    assert [line[:3] for line in lines] == ["A) ", "B) ", "C) ", "D) "]
    assert prompt.id == "rec1"


def test_gpqa_needs_a_seed(tokenizer, write_jsonl):
    with pytest.raises(ConfigError, match="would leave every right option at A"):
        load_prompts(PromptSource(write_jsonl(GPQA)), tokenizer)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ARC | {"answerKey": "4"}, "answer is not one of the labels 1, 2, 3, got '4'"),
        (ARC | {"choices": {"text": ["x", "y"]}}, "labels are not a list of at most 10, got 'None"),
        (ARC | {"choices": {"text": ["x"], "label": ["1", "2"]}}, "a question has 2 to 10 options"),
        (
            ARC | {"choices": ARC["choices"] | {"label": ["1", "2", "3", "4"]}, "answerKey": "4"},
            "answer is not one of the letters ABC, got 'D'",
        ),
        (GPQA | {"Incorrect Answer 2": None}, "a question has 3 wrong options of text, got 2"),
        (GPQA | {"Incorrect Answer 3": " "}, "a question has 3 wrong options of text, got 2"),
    ],
)
def test_a_bad_row_of_arc_or_gpqa_is_named(tokenizer, write_jsonl, row, words):
    first, seed = (ARC, None) if "choices" in row else (GPQA, 0)
    path = write_jsonl(first, row)
    with pytest.raises(DataError) as caught:
        load_prompts(PromptSource(path, options_seed=seed), tokenizer)
    assert str(caught.value).startswith(f"{path}:2: {words}")
