"""Answers on disk, read back."""

import json

import pytest

from luffy_pl.callbacks.samples import append_groups, write_groups
from luffy_pl.errors import StorageError
from luffy_pl.evaluation.answers import (
    answer_files,
    complete_problems,
    drop_incomplete,
    read_kept_answers,
)
from luffy_pl.evaluation.metrics import BenchmarkMetric
from luffy_pl.records import Group, Prompt, Response, Verdict


def problem(number):
    return Prompt(f"p/{number}", f"{number}?", (1,), str(number))


def group(number, correct=(True, False)):
    """Text with every character that somebody takes for the end of a line, and no ASCII."""
    gold = str(number)
    responses = tuple(
        Response(
            "rollout", "a\u2028b\x85c\n\x1c\u00e9\U0001f600", (7,) * (2 + number), "length",
            Verdict(is_right, "ok", "string", None, gold, ms=0.1),
        )
        for is_right in correct
    )  # fmt: skip
    return Group(
        problem(number), responses, tuple(None if c is None else float(c) for c in correct)
    )


def test_what_is_read_back_counts_as_before(tmp_path):
    groups = [group(0), group(1, (None, None)), group(2, (True, True))]
    append_groups(tmp_path / "b-0.jsonl", groups[:1])
    append_groups(tmp_path / "b-0.jsonl", groups[1:2])
    append_groups(tmp_path / "b-1.jsonl", groups[2:])
    found = read_kept_answers(tmp_path, "b", problems=map(problem, range(3)), samples=2)
    before, after = BenchmarkMetric(3), BenchmarkMetric(3)
    before.update(range(3), groups)
    after.update(range(3), [found[f"p/{number}"] for number in range(3)])
    assert after.problems() == before.problems()
    for name, restored in found.items():
        original = groups[int(name[-1])]
        assert restored.prompt == original.prompt
        assert restored.rewards == original.rewards
        assert [r.verdict for r in restored.responses] == [r.verdict for r in original.responses]
        assert [r.text for r in restored.responses] == [r.text for r in original.responses]


def test_a_file_cut_anywhere_keeps_its_complete_problems(tmp_path):
    path = tmp_path / "b-0.jsonl"
    write_groups(path, [group(0), group(1)])
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        drop_incomplete(path, 2)
        # Without its last character, the end of the line, an answer is whole nevertheless.
        expected = sum(length >= end - 1 for end in ends[1::2])
        assert len(complete_problems(path, 2)) == expected
        assert path.read_bytes() == whole[: ends[2 * expected - 1] if expected else 0]


def test_files_of_one_benchmark(tmp_path):
    for name in ("a-0", "a-1", "a-b-0", "a-0-0", "ab-0", "a-x"):
        (tmp_path / f"{name}.jsonl").touch()
    (tmp_path / "a-2.partial").touch()
    assert [path.stem for path in answer_files(tmp_path, "a")] == ["a-0", "a-1"]


@pytest.mark.parametrize("place", ["prompt", "gold"])
def test_answers_to_another_problem(tmp_path, place):
    path = tmp_path / "b-0.jsonl"
    write_groups(path, [group(0)])
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    for line in lines:
        (line if place == "prompt" else line["verdict"])[place] = "other"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StorageError, match="another text or gold of this problem, got 'p/0'"):
        read_kept_answers(tmp_path, "b", problems=[problem(0)], samples=2)
