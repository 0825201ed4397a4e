"""The benchmarks of conf/eval: composed by the command line, loaded from the files they name."""

import dataclasses
import json

import pytest
from byte_tokenizer import byte_tokenizer
from composing import composed as compose

from luffy_pl.data.columns import Columns
from luffy_pl.data.prompts import load_prompts
from luffy_pl.data.source import PromptSource
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.reward.reward import RewardConfig, build_verifier

MATH = {"aime24": 30, "aime25": 30, "amc": 83, "math500": 500, "minerva": 272, "olympiad": 675}
OOD = {"arc_c": 1172, "gpqa_diamond": 198}
SAMPLED_OFTEN = {"aime24", "aime25", "amc"}


pytestmark = pytest.mark.runs


def composed(*names):
    """The data section of `luffy-pl validate` with overlays of conf/eval."""
    overlays = [arg for name in names for arg in ("--config", f"conf/eval/{name}.yaml")]
    return compose("validate", "--config", "conf/luffy.yaml", *overlays).data.as_dict()


def benchmarks(data):
    for entry in (entry.as_dict() for entry in data["benchmarks"]):
        columns = Columns(**entry["source"].get("columns", {}))
        source = PromptSource(**{**entry["source"], "columns": columns})
        yield Benchmark(**{**entry, "source": source, "reward": reward(entry)})


def reward(entry):
    settings = entry.get("reward")
    return settings and RewardConfig(**{**settings, "forms": tuple(settings["forms"])})


def loaded(benchmark, path):
    source = dataclasses.replace(benchmark.source, path=str(path), split=None)
    return load_prompts(source, byte_tokenizer()).prompts


def test_the_released_files_hold_every_benchmark(released_files):
    for overlay, sizes in (("math", MATH), ("ood", OOD)):
        found = {}
        for benchmark in benchmarks(composed(overlay)):
            assert benchmark.source.path.startswith("data/valid.")
            path = released_files / benchmark.source.path.removeprefix("data/")
            found[benchmark.name] = len(loaded(benchmark, path))
        assert found == sizes


def test_they_are_asked_as_in_the_paper():
    for benchmark in benchmarks(composed("math")):
        assert benchmark.samples_per_problem == (32 if benchmark.name in SAMPLED_OFTEN else 1)
        assert (benchmark.temperature, benchmark.top_p) == (0.6, 1.0)
        assert not benchmark.out_of_distribution
        assert benchmark.max_tokens(8192) == 8192
    ood = [*benchmarks(composed("ood")), *benchmarks(composed("mmlu_pro"))]
    hub = list(benchmarks(composed("ood_hub")))
    for of in (ood, hub):
        assert [benchmark.name for benchmark in of] == ["arc_c", "gpqa_diamond", "mmlu_pro"]
    for benchmark in ood + hub:
        assert (benchmark.samples_per_problem, benchmark.temperature) == (1, 0.6)
        assert benchmark.out_of_distribution


def test_mmlu_pro_is_the_same_alone_and_among_the_others():
    (alone,) = composed("mmlu_pro")["benchmarks"]
    *_, among = composed("ood_hub")["benchmarks"]
    assert among == alone


def test_an_overlay_takes_nothing_from_the_benchmarks_before_it():
    """conf/luffy.yaml lists two benchmarks, and so does conf/eval/ood.yaml."""
    assert len(composed()["benchmarks"]) == len(composed("ood")["benchmarks"])
    assert composed("math_hub", "ood") == composed("ood")


def test_letters_are_read_from_boxes_and_from_a_last_line():
    texts = [r"</think>\boxed{C}", "</think>so\nANSWER: C", "</think>ANSWER: B", "ANSWER: C"]
    for overlay in ("ood", "ood_hub", "mmlu_pro"):
        for benchmark in benchmarks(composed(overlay)):
            verifier = build_verifier(benchmark.reward)
            verdicts = verifier.grade([(text, "C") for text in texts])
            assert [verdict.correct for verdict in verdicts] == [True, True, False, False]


def test_multiple_choice_leaves_the_reward_of_the_run_alone():
    assert composed("ood")["reward"] == composed()["reward"]
    assert composed("mmlu_pro")["reward"] == composed()["reward"]
    assert [benchmark.reward for benchmark in benchmarks(composed("math"))] == [None] * 6


# One row as each hub data set has it; the question and the answer are ours.
HUB_ROWS = {
    "aime24": {"id": 60, "problem": "2+2?", "solution": "", "answer": "4", "year": "2024"},
    "aime25": {"id": "0", "problem": "2+2?", "answer": "4"},
    "amc": {"id": 0, "problem": "2+2?", "answer": 4.0, "url": ""},
    "math500": {"problem": "2+2?", "solution": "", "answer": "4", "unique_id": "test/1.json"},
    "minerva": {"question": "2+2?", "answer": "4"},
    "olympiad": {"id": 1606, "question": "2+2?", "final_answer": ["4"], "solution": [""]},
    "mmlu_pro": {"question_id": 7, "question": "2+2?", "options": ["4", "5"], "answer": "A"},
    "arc_c": {"id": "x", "question": "2+2?", "answerKey": "1",
              "choices": {"text": ["4", "5"], "label": ["1", "2"]}},
    "gpqa_diamond": {"Record ID": "r", "Question": "2+2?", "Correct Answer": "4",
                     "Incorrect Answer 1": "5", "Incorrect Answer 2": "6",
                     "Incorrect Answer 3": "7", "Explanation": ""},
}  # fmt: skip


def test_the_columns_of_the_hub_data_sets(tmp_path):
    seen = set()
    for benchmark in [*benchmarks(composed("math_hub")), *benchmarks(composed("ood_hub"))]:
        path = tmp_path / f"{benchmark.name}.jsonl"
        path.write_text(json.dumps(HUB_ROWS[benchmark.name]) + "\n")
        (prompt,) = loaded(benchmark, path)
        assert "2+2?" in prompt.text
        if benchmark.out_of_distribution:
            assert f"\n{prompt.ground_truth}) 4" in prompt.text
        else:
            assert prompt.ground_truth == {"amc": "4.0"}.get(benchmark.name, "4")
        assert benchmark.source.split in ("train", "test")
        seen.add(benchmark.name)
    assert seen == set(HUB_ROWS)
