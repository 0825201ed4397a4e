"""`luffy-pl verify` from the command line."""

import csv
import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_pairs import PAIRS

from luffy_pl.reward.math_verifier import MathVerifier

PAIR_LINES = [
    {"id": 1, "prediction": r"\boxed{\frac12}", "gold": "0.5", "equal": True},
    {"id": 2, "prediction": "The final answer is 7.", "gold": "8", "equal": False},
    {"id": 3, "prediction": r"\boxed{(w+1)^2}", "gold": "w^2+2w+1", "equal": False},
    {"id": 4, "prediction": "no idea", "gold": "5", "equal": True},
    {"id": 5, "prediction": "a\u2028b \\boxed{5}", "gold": "5"},
    {"id": 6, "prediction": "\\boxed{\ud800}", "gold": "5"},
]


def write(path, *rows):
    # As a run writes them: a line separator stays what it is. Half a surrogate pair cannot.
    texts = (json.dumps(row, ensure_ascii=r"\ud800" in str(row)) for row in rows)
    path.write_text("".join(text + "\n" for text in texts))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_comes_back_in_order_with_its_verdict(command_line, tmp_path):
    pairs, out = write(tmp_path / "pairs.jsonl", *PAIR_LINES), tmp_path / "new" / "out.jsonl"
    done = command_line("verify", "--pairs", pairs, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = read(out)
    assert [{k: v for k, v in row.items() if k != "verdict"} for row in rows] == PAIR_LINES
    assert [row["verdict"]["correct"] for row in rows] == [True, False, True, False, True, False]
    assert rows[0]["verdict"] == {
        "correct": True,
        "status": "ok",
        "tier": "rational",
        "extracted": r"\frac12",
        "gold": "0.5",
        "ms": rows[0]["verdict"]["ms"],
        "reward": None,
    }


def test_the_summary_counts_by_hand(command_line, tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", *PAIR_LINES[:4])
    done = command_line("verify", "--pairs", pairs, "--out", tmp_path / "out.jsonl")
    # Line 3 is right and said to be wrong, line 4 the other way round.
    assert done.stdout.splitlines() == [
        "4 answers: 2 correct",
        "status: 3 ok, 1 no_answer",
        "tier: 2 rational, 1 sympy, 1 extract",
        "agreement with the file: 2 of 4 (1 false positives, 1 false negatives)",
    ]


def test_one_and_four_workers_write_the_same(command_line, tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", *PAIR_LINES)
    written = []
    for workers in (1, 4):
        out = tmp_path / f"{workers}.jsonl"
        done = command_line("verify", "--pairs", pairs, "--out", out, "--workers", workers)
        assert done.returncode == 0
        rows = read(out)
        for row in rows:
            del row["verdict"]["ms"]
        written.append((rows, done.stdout))
    assert written[0] == written[1]


def test_saved_rollouts_are_graded_again(command_line, tmp_path):
    verdict = {"correct": False, "status": "ok", "tier": "string", "gold": "4"}
    rollouts = write(
        tmp_path / "phase-000000.jsonl",
        {"prompt_id": "a", "response": r"\boxed{4}</think>so \boxed{4}", "verdict": verdict},
        {"prompt_id": "a", "response": r"\boxed{4}", "verdict": verdict},
    )
    out = tmp_path / "out.jsonl"
    done = command_line("verify", "--pairs", rollouts, "--out", out, "--think_end", "</think>")
    assert done.returncode == 0, done.stderr
    assert [(row["prompt_id"], row["verdict"]["correct"]) for row in read(out)] == [
        ("a", True),
        ("a", False),
    ]
    assert "agreement with the file: 1 of 2 (1 false positives, 0 false neg" in done.stdout


@pytest.mark.parametrize(
    ("forms", "correct"),
    [("boxed", [True, False]), ("choice", [False, True]), ("choice,boxed", [True, True])],
)
def test_forms(command_line, tmp_path, forms, correct):
    pairs = write(
        tmp_path / "pairs.jsonl",
        {"prediction": r"\boxed{C}", "gold": "C"},
        {"prediction": "ANSWER: C", "gold": "C"},
    )
    out = tmp_path / "out.jsonl"
    assert command_line("verify", "--pairs", pairs, "--out", out, "--forms", forms).returncode == 0
    assert [row["verdict"]["correct"] for row in read(out)] == correct


MISTAKES = {
    "no gold": ('{"prediction": "5"}', 3, "pairs.jsonl:2: gold is not text"),
    "a number as gold": ('{"prediction": "5", "gold": 5}', 3, "pairs.jsonl:2: gold is not text"),
    "a rollout without gold": (
        '{"response": "5", "verdict": {}}',
        3,
        "pairs.jsonl:2: verdict.gold is not text",
    ),
    "no prediction": ('{"gold": "5"}', 3, "pairs.jsonl:2: prediction is not text"),
    "a verdict that is none": (
        '{"prediction": "5", "gold": "5", "equal": "perhaps"}',
        3,
        "pairs.jsonl:2: equal is neither true nor false",
    ),
    "broken JSON": ('{"prediction": ', 3, "pairs.jsonl:2: invalid JSON"),
    "a list": ("[1]", 3, "pairs.jsonl:2: a JSON list, not an object"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(command_line, tmp_path, name):
    line, code, words = MISTAKES[name]
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    pairs.write_text('{"prediction": "5", "gold": "5"}\n' + line + "\n")
    done = command_line("verify", "--pairs", pairs, "--out", out)
    assert done.returncode == code
    [message] = done.stderr.splitlines()
    assert words in message
    assert "Fix: " in message
    assert not out.exists()


def test_files_that_cannot_be_read_or_written(command_line, tmp_path):
    done = command_line("verify", "--pairs", tmp_path / "no.jsonl", "--out", tmp_path / "o.jsonl")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    pairs = write(tmp_path / "pairs.jsonl", {"prediction": "5", "gold": "5"})
    done = command_line("verify", "--pairs", pairs, "--out", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 1)


def test_an_unknown_form(command_line, tmp_path):
    done = command_line("verify", "--pairs", "x", "--out", "y", "--forms", "box")
    assert done.returncode == 2
    assert "boxed | hash | choice | final" in done.stderr


def test_the_table_of_tricky_pairs(command_line, tmp_path):
    done = command_line("verify", "--pairs", PAIRS, "--out", tmp_path / "out.jsonl")
    # test_pairs.py names the one that differs.
    assert "agreement with the file: 111 of 112 (0 false positives, 1 false" in done.stdout


TABLE = [
    {"prediction": r"\boxed{5}", "gold": "5", "equal": True},
    {"prediction": r"\boxed{6}", "gold": "5", "equal": False},
    {"prediction": "", "gold": "5", "equal": False},
]


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_folder(path, rows):
    path.mkdir()
    for number, row in enumerate(rows):
        write(path / f"phase-{number:06}.jsonl", row)


WRITERS = {
    "array.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "table.csv": write_csv,
    "table.parquet": lambda path, rows: pq.write_table(
        pa.Table.from_pylist([{**row, "day": date(2026, 1, 2)} for row in rows]), path
    ),
    "packed.jsonl.gz": lambda path, rows: path.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    ),
    "lines": lambda path, rows: write(path, *rows),
    "rollouts": write_folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_of_data_is_graded(command_line, tmp_path, name):
    WRITERS[name](tmp_path / name, TABLE)
    out = tmp_path / "out.jsonl"
    call = ("verify", "--pairs", tmp_path / name, "--out", out)
    done = command_line(*call)
    assert done.returncode == 0, done.stderr
    assert [row["verdict"]["correct"] for row in read(out)] == [True, False, False]
    assert "agreement with the file: 3 of 3 (0 false positives, 0 false neg" in done.stdout
    again = command_line(*call, "--resume")
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_a_pipe_is_read_once(command_line, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = "".join(json.dumps(row) + "\n" for row in TABLE)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(pipe.write_text, lines)
        done = command_line("verify", "--pairs", pipe, "--out", tmp_path / "out.jsonl")
        writing.result()
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "out.jsonl")) == 3


MANY = [
    {"id": n, "prediction": rf"\boxed{{{n % 7}\sqrt2}}", "gold": r"3\sqrt{2}", "equal": n % 7 == 3}
    for n in range(1300)
]


def without_times(path):
    rows = read(path)
    for row in rows:
        del row["verdict"]["ms"]
    return rows


@pytest.fixture
def whole(command_line, tmp_path):
    """Pairs, their verdicts, and what was printed."""
    pairs, out = write(tmp_path / "pairs.jsonl", *MANY), tmp_path / "whole.jsonl"
    done = command_line("verify", "--pairs", pairs, "--out", out)
    assert done.returncode == 0, done.stderr
    return pairs, out, done.stdout


@pytest.mark.parametrize(
    "kept",
    [
        "torn line",
        "torn JSON",
        *(pytest.param(kept, marks=pytest.mark.long)
          for kept in ("nothing", "torn first line", "lines", "all")),
    ],
)  # fmt: skip
def test_a_call_that_was_cut_off_goes_on(command_line, tmp_path, whole, kept):
    pairs, out, printed = whole
    text = out.read_bytes()
    lines = text.splitlines(keepends=True)
    start = {
        "nothing": b"",
        "torn first line": lines[0][:20],
        "lines": b"".join(lines[:700]),
        "torn line": b"".join(lines[:700]) + lines[700][:-1],
        "torn JSON": b"".join(lines[:700]) + lines[700][:30],
        "all": text,
    }[kept]
    again = tmp_path / "again.jsonl"
    again.write_bytes(start)
    done = command_line("verify", "--pairs", pairs, "--out", again, "--resume")
    assert done.returncode == 0, done.stderr
    assert without_times(again) == without_times(out)
    assert done.stdout == printed
    kept_lines = start[: start.rfind(b"\n") + 1]
    assert again.read_bytes().startswith(kept_lines)  # as they were, times and all


def test_what_is_graded_is_written_before_the_next_block(command_line, tmp_path, monkeypatch):
    """A million lines are never in memory, and a kill loses one block."""
    pairs, out = write(tmp_path / "pairs.jsonl", *MANY), tmp_path / "out.jsonl"
    grade, seen = MathVerifier.grade, []

    def watched(self, items, on_progress=None):
        seen.append((len(items), len(out.read_text().splitlines())))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return grade(self, items, on_progress)

    monkeypatch.setattr(MathVerifier, "grade", watched)
    command_line("verify", "--pairs", pairs, "--out", out)
    assert seen == [(512, 0), (512, 512), (276, 1024)]
    assert len(read(out)) == 1024


def test_resuming_something_else_is_refused(command_line, tmp_path, whole):
    pairs, out, _ = whole
    before = out.read_bytes()
    other = write(tmp_path / "other.jsonl", *MANY[5:])
    done = command_line("verify", "--pairs", other, "--out", out, "--resume")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "whole.jsonl:1: is no line of --pairs" in done.stderr
    done = command_line("verify", "--pairs", pairs, "--out", out, "--resume", "--forms", "hash")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "was graded with other settings" in done.stderr
    assert out.read_bytes() == before


def test_the_pairs_are_not_overwritten(command_line, tmp_path):
    pairs = write(tmp_path / "pairs.jsonl", *PAIR_LINES)
    before = pairs.read_bytes()
    for more in ([], ["--resume"]):
        done = command_line("verify", "--pairs", pairs, "--out", pairs, *more)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert pairs.read_bytes() == before
