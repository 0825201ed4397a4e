"""Lessons for the base of experiments 12 and 13: their decisions stand where they should."""

import random
import re

import pytest
from scripts import load

from luffy_pl.miniature.corpus import encode_texts
from luffy_pl.miniature.tokenizer import VOCABULARY, build_tokenizer
from luffy_pl.miniature.world import END_OF_THINK, OPENERS, draw_problem


@pytest.fixture(scope="module")
def build():
    return load("experiments", "reader", "build.py")


@pytest.mark.parametrize("kind", ["book", "plain", "beginning", "solution", "failure", "gold"])
def test_a_decision_is_an_opener_or_the_end(build, kind):
    rng, tokenizer = random.Random(kind), build_tokenizer()
    for _ in range(50):
        problem = draw_problem(rng.choice(build.LENGTHS), rng)
        lesson = build.draw_lesson(kind, problem, rng, plain=0.002)
        assert len(lesson.go_on) == len(lesson.text.decisions)
        batch = encode_texts(tokenizer, [lesson.text])
        decided = batch.token_ids_NL[:, 1:][batch.decision_mask_NT.bool()].tolist()
        assert {VOCABULARY[token] for token in decided} <= {*OPENERS, END_OF_THINK}
        boxed = re.findall(r"boxed\{(\d+)\}", lesson.text.response)[-1]
        if kind in ("book", "solution", "gold"):
            assert boxed == str(problem.answer)


def test_what_is_shown_is_gone_on_with(build):
    rng = random.Random(0)
    lessons = [
        build.draw_lesson("beginning", draw_problem(5, rng), rng, plain=0.002) for _ in range(50)
    ]
    for lesson in lessons:
        # A step that is shown up to its opener alone counts as shown.
        shown = len(re.findall("|".join(OPENERS), lesson.text.prompt))
        expected = [0.95 if number < shown else 0.3 for number in range(1, 5)]
        assert list(lesson.go_on) == expected[: len(lesson.go_on)]
