import json
import random
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from luffy_pl.bundled import bundled_names, resolve
from luffy_pl.errors import ConfigError
from luffy_pl.miniature import middle
from luffy_pl.miniature.answers import count_right
from luffy_pl.miniature.build import DEFAULT_SEED, main, write_rows
from luffy_pl.miniature.corpus import encode_texts
from luffy_pl.miniature.middle import (
    SPLITS,
    TURN,
    GradedProblem,
    chat_prompt,
    draw_problem,
    draw_rows,
    draw_texts,
    write_base_answer,
    write_trace,
)
from luffy_pl.miniature.middle_gate import MiddleFigures
from luffy_pl.miniature.worlds import MIDDLE

TOKENIZER = MIDDLE.build_tokenizer()
PROBLEM = GradedProblem(27, (-6, TURN, 9))
STEP = re.compile(r"(so|then|now|next)(\d+)(~|[+-]\d)=(\d+)")


def test_a_problem_by_hand():
    assert PROBLEM.question == "27-6~+9=?"
    assert PROBLEM.values == (27, 21, 12, 21)
    assert PROBLEM.answer == 21
    assert PROBLEM.kind == "turn_3"
    assert PROBLEM.without_turns.values == (27, 21, 30)
    assert GradedProblem(27, (-6, TURN, 9), in_words=True).question == "27less6~plus9=?"


@pytest.mark.parametrize(("length", "num_turns"), [(1, 0), (4, 0), (2, 1), (6, 1)])
def test_no_way_but_the_whole_one_is_right(length, num_turns):
    rng = random.Random(length)
    for _ in range(200):
        problem = draw_problem(length, num_turns, rng)
        assert problem.changes.count(TURN) == num_turns
        passed_over = problem.without_turns.values
        assert all(10 <= value <= 99 for value in (*problem.values, *passed_over))
        assert problem.answer not in problem.values[:-1]
        assert not num_turns or problem.answer not in passed_over


def test_the_expert_takes_every_step_in_its_own_words():
    rng = random.Random(0)
    opened = []
    for _ in range(1000):
        problem = draw_problem(4, 1, rng)
        thought, _, answer = write_trace(problem, rng).partition("</think>")
        steps = STEP.findall(thought)
        assert thought == "".join("{}{}{}={}".format(*step) for step in steps) + (
            f"thus{problem.answer}"
        )
        assert [int(step[3]) for step in steps] == list(problem.values[1:])
        assert answer == f"\\boxed{{{problem.answer}}}"
        opened += [step[0] for step in steps]
    # 4,000 draws: the standard error is below 0.008.
    for opener, share in middle.EXPERT_OPENERS.items():
        assert opened.count(opener) / len(opened) == pytest.approx(share, abs=0.03)


def test_the_base_reads_past_a_turn_and_gives_up_before_subtractions():
    rng = random.Random(0)
    problem = GradedProblem(27, (9, TURN, 5, -6))
    answers = [write_base_answer(problem, rng, is_book=False) for _ in range(4000)]
    turned = sum("~" in answer for answer in answers) / len(answers)
    added = [answer for answer in answers if "~" not in answer and "+5" in answer]
    assert turned == pytest.approx(middle.TRIES_TURN, abs=0.01)
    assert len(added) / len(answers) == pytest.approx(middle.GO_ON_PLUS, abs=0.03)
    taken_off = sum("-6" in answer for answer in added) / len(added)
    assert taken_off == pytest.approx(middle.GO_ON_LESS, abs=0.04)


def test_a_book_of_the_base_never_gives_up():
    rng = random.Random(0)
    for _ in range(200):
        problem = draw_problem(5, 0, rng)
        assert f"\\boxed{{{problem.answer}}}" in write_base_answer(problem, rng, is_book=True)


def test_texts_are_of_its_tokens_and_hold_no_decisions():
    texts = draw_texts(64, random.Random(0))
    assert {text.prompt.partition(">")[0] for text in texts} == {"<book", "<user"}
    assert {"plus" in text.prompt or "less" in text.prompt for text in texts} == {True, False}
    assert encode_texts(TOKENIZER, texts).decision_mask_NT.sum() == 0
    for text in texts:
        assert TOKENIZER.decode(TOKENIZER.encode(text.prompt)) == text.prompt


def test_prompts_are_what_the_chat_template_renders():
    message = {"role": "user", "content": PROBLEM.question}
    assert chat_prompt(PROBLEM) == TOKENIZER.apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True
    )


def test_splits_hold_what_they_promise_and_share_no_problem():
    rows = draw_rows(3)
    for split, found in rows.items():
        kinds = [row["data_source"] for row in found]
        for (length, num_turns), number in SPLITS[split].items():
            assert kinds.count(f"{'turn' if num_turns else 'plain'}_{length}") == number
    every = [row for found in rows.values() for row in found]
    asked = [re.sub("plus", "+", row["prompt"][0]["content"]).replace("less", "-") for row in every]
    assert len(set(asked)) == len(every)
    assert all("+" not in row["prompt"][0]["content"] for row in rows["words"])


def test_the_shipped_problems_and_tokenizer_are_the_ones_that_are_written(tmp_path):
    write_rows(tmp_path, seed=DEFAULT_SEED, world=MIDDLE)
    TOKENIZER.save_pretrained(tmp_path / "base")
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > len(SPLITS)
    for file in written:
        assert (MIDDLE.folder / file.relative_to(tmp_path)).read_bytes() == file.read_bytes()


def test_the_shipped_base_passes_the_gate():
    model = AutoModelForCausalLM.from_pretrained(MIDDLE.folder / "base").eval()
    tokenizer = AutoTokenizer.from_pretrained(MIDDLE.folder / "base")
    figures = MIDDLE.measure_base(model, tokenizer)
    assert figures.failures() == []


def test_the_world_stays_small():
    sizes = [file.stat().st_size for file in MIDDLE.folder.rglob("*") if file.is_file()]
    assert sum(sizes) < 1_000_000


GOOD = MiddleFigures(in_middle=0.45, solved={"plain_2": 0.6, "turn_3": 0.0}, knows_steps=1.0)


@pytest.mark.parametrize(
    ("figures", "failure"),
    [
        (MiddleFigures(0.29, GOOD.solved, 1.0), "0.29 of the problems in the middle"),
        (MiddleFigures(0.45, {"turn_3": 0.03}, 1.0), "solves 0.030 of turn_3"),
        (MiddleFigures(0.45, GOOD.solved, 0.94), "accuracy on one change 0.940"),
    ],
)
def test_a_base_fails_by_each_bound(figures, failure):
    assert GOOD.failures() == []
    (found,) = figures.failures()
    assert found.startswith(failure)


def test_right_answers_are_counted_prompt_by_prompt():
    model = AutoModelForCausalLM.from_pretrained(MIDDLE.folder / "base").eval()
    easy, hard = GradedProblem(27, (9,)), GradedProblem(50, (-6, -7, -8, -9, -5))
    asked = [(chat_prompt(p), p.answer) for p in (hard, easy)]
    asked += [(chat_prompt(easy), easy.answer + 1)]
    # The easy problem has one step, which the base knows; an answer that is off by one is wrong.
    assert count_right(model, TOKENIZER, asked, max_new_tokens=56)[1:] == [1, 0]
    few, many, wrong = count_right(model, TOKENIZER, asked, max_new_tokens=56, samples=8)
    assert few <= 2
    assert many >= 7
    assert wrong == 0


def test_its_configuration_names_files_that_come_with_the_package():
    names = re.findall(r"bundled:(middle/[\w.]+)", Path(resolve("bundled:middle")).read_text())
    assert len(names) == 1 + len(SPLITS)
    for name in names:
        assert name in bundled_names()
        assert Path(resolve(f"bundled:{name}")) == MIDDLE.folder / name.removeprefix("middle/")


def test_its_problems_are_written_without_a_base(tmp_path):
    assert main(["problems", "--world", "middle", "--out", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "longer.jsonl").read_text().partition("\n")[0])
    assert first["data_source"] == "plain_6"


def test_only_the_other_expert_skips(tmp_path):
    with pytest.raises(ConfigError, match="Fix: --world quickstart"):
        main(["problems", "--world", "middle", "--skip", "0.5", "--out", str(tmp_path)])
