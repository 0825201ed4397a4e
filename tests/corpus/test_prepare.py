"""Public data sets in small: which rows and traces are left, and that a killed command goes on."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RIGHT, WRONG = "<think>\n6*7=42\n</think>\n\\boxed{42}", "<think>\nhm\n</think>\n\\boxed{41}"


def openr1(problem, generations, *, verified=None, complete=None, answer="42"):
    flags = [True] * len(generations)
    return {
        "problem": problem, "answer": answer, "uuid": problem[:6], "source": "olympiads",
        "generations": generations,
        "correctness_math_verify": flags if verified is None else verified,
        "is_reasoning_complete": flags if complete is None else complete,
    }  # fmt: skip


LONG = RIGHT.replace("6*7=42", "6*7=42" + " so" * 60)
OPENR1 = [
    openr1("First: six times seven?", [WRONG, RIGHT, RIGHT + " "]),
    openr1("Second: six times seven?", [RIGHT, RIGHT + "\n"], verified=[False, True]),
    openr1("Third: six times seven?", [RIGHT], complete=[False]),
    openr1("Fourth: six times seven?", [LONG]),
    openr1("first:  SIX times seven?", [RIGHT]),
    openr1("Fifth: six times seven?", [RIGHT], answer="the graph is a parabola"),
    openr1("Sixth: six times seven?", [RIGHT, LONG]),
]


@pytest.fixture
def hub_folder(tmp_path):
    """A data set as the hub lays it out, in two files."""
    folder = tmp_path / "openr1" / "data"
    folder.mkdir(parents=True)
    for number, rows in enumerate((OPENR1[:3], OPENR1[3:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-{number:05d}-of-00002.parquet")
    return folder.parent


@pytest.fixture
def prepare(command_line):
    def run(*args):
        done = command_line("data", "prepare", *args)
        assert done.returncode == 0, done.stderr
        return done

    return run


def rows(file):
    return pq.read_table(file).to_pylist()


def test_openr1_is_streamed_filtered_and_split(prepare, hub_folder, byte_model, tmp_path):
    out = tmp_path / "out"
    done = prepare(
        "openr1", "--path", hub_folder, "--tokenizer", byte_model, "--max_trace_tokens", "100",
        "--complement", "true", "--system_prompt", "Think.", "--out", out,
    )  # fmt: skip
    train = rows(out / "train.parquet")
    assert [row["prompt"][1]["content"][:6] for row in train] == ["First:", "Second", "Sixth:"]
    assert [row["target"][0]["content"] for row in train] == [RIGHT, RIGHT + "\n", RIGHT]
    assert train[0] == {
        "data_source": "olympiads",
        "prompt": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "First: six times seven?"},
        ],
        "target": [{"role": "assistant", "content": RIGHT}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "42"},
        "extra_info": {"split": "default", "index": 1},
    }
    complement = rows(out / "complement.parquet")
    assert [row["prompt"][1]["content"][:6] for row in complement] == ["Third:", "Fourth"]
    assert all(row["target"] is None for row in complement)
    report = json.loads((out / "data_report.json").read_text())
    assert report["fates"] == {"kept": 3, "no_trace": 2, "duplicate_prompt": 1, "gold_unusable": 1}
    assert report["lost_traces"] == {
        "too_long": 2, "wrong": 1, "not_verified": 1, "not_complete": 1,
    }  # fmt: skip
    assert report["trace_tokens"]["longest"] == len(RIGHT) + 2
    assert "3 kept" in done.stdout
    assert "| duplicate_prompt | 1 |" in (out / "README.md").read_text()
    assert not (out / "shards").exists()


def test_all_survivors_can_be_read_as_traces(prepare, hub_folder, byte_model, tmp_path):
    from luffy_pl.data.columns import Columns
    from luffy_pl.data.prompts import load_prompts
    from luffy_pl.data.source import PromptSource
    from luffy_pl.data.tokenizer import load_tokenizer

    prepare("openr1", "--path", hub_folder, "--survivors", "all", "--out", tmp_path / "out")
    source = PromptSource(
        str(tmp_path / "out" / "train.parquet"), columns=Columns(trace="target_lst")
    )
    prompts = load_prompts(source, load_tokenizer(str(byte_model)), max_response_tokens=1000)
    assert [len(found) for found in prompts.traces.values()] == [2, 1, 1, 2]


def test_ungraded_means_what_the_source_says(prepare, hub_folder, tmp_path):
    prepare("openr1", "--path", hub_folder, "--grade", "false", "--out", tmp_path / "out")
    assert rows(tmp_path / "out" / "train.parquet")[0]["target"][0]["content"] == WRONG


def test_numina_takes_its_gold_from_the_box_or_the_column(prepare, tmp_path):
    found = [
        {"problem": "A", "solution": "Six times seven is $\\boxed{42}$.", "source": "amc"},
        {"problem": "B", "solution": "Shown.", "answer": "proof", "source": "olympiads"},
        {"problem": "C", "solution": "No box.", "source": "amc"},
    ]
    path = tmp_path / "numina.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    prepare("numina", "--path", path, "--form", "think", "--out", tmp_path / "out")
    (only,) = rows(tmp_path / "out" / "train.parquet")
    assert only["reward_model"]["ground_truth"] == "42"
    assert only["target"][0]["content"] == (
        "<think>\nSix times seven is $\\boxed{42}$.\n</think>\n\nThe answer is \\boxed{42}."
    )
    report = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert report["fates"] == {"no_gold": 2, "kept": 1}


def test_jsonl_of_any_columns_without_the_test_set(prepare, tmp_path):
    path, test = tmp_path / "own.jsonl", tmp_path / "test.jsonl"
    taken = "How many legs do seven spiders have when each of them has eight legs?"
    own = [
        {"q": "Six times seven?", "a": 42, "s": RIGHT},
        {"q": taken, "a": 56, "s": "\\boxed{56}"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in own))
    test.write_text(json.dumps({"prompt": taken.upper(), "answer": "56"}) + "\n")
    prepare(
        "jsonl", "--path", path, "--columns.prompt", "q", "--columns.answer", "a",
        "--columns.trace", "s", "--against", test, "--out", tmp_path / "out",
    )  # fmt: skip
    assert len(rows(tmp_path / "out" / "train.parquet")) == 1
    report = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert report["fates"] == {"kept": 1, "test_overlap": 1}
    assert report["first"]["test_overlap"] == [f"{path}:2 {test}:1"]


def test_gsm8k_in_two_processes_goes_on_after_a_kill(prepare, command_line, tmp_path, monkeypatch):
    from luffy_pl.corpus.prepare import shards

    path = tmp_path / "gsm8k.jsonl"
    lines = [
        json.dumps(
            {"question": f"{n}+1?", "answer": f"{n}+1=<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
        )
        for n in range(600)
    ]
    path.write_text("\n".join(lines) + "\n")
    args = ["gsm8k", "--path", path, "--form", "think", "--out", tmp_path / "out"]
    real = shards.do_chunk

    def killed(job, chunk, file):
        if file.name == "000001.jsonl":
            raise KeyboardInterrupt
        real(job, chunk, file)

    monkeypatch.setattr(shards, "do_chunk", killed)
    assert command_line("data", "prepare", *args).returncode == 130
    assert (tmp_path / "out" / "shards" / "000000.jsonl").exists()
    other = command_line("data", "prepare", *args, "--limit", "10")
    assert other.returncode == 8
    assert "with other settings" in other.stderr
    done = []
    monkeypatch.setattr(
        shards, "do_chunk", lambda *given: (done.append(given[2].name), real(*given))
    )
    prepare(*args)
    assert done == ["000001.jsonl", "000002.jsonl"]
    one = rows(tmp_path / "out" / "train.parquet")
    assert len(one) == 600
    assert one[7]["target"][0]["content"] == "<think>\n7+1=8\n</think>\n\nThe answer is \\boxed{8}."
    again = command_line("data", "prepare", *args)
    assert "holds a prepared data set" in again.stderr
    monkeypatch.undo()
    prepare(*args[:-1], tmp_path / "two", "--workers", "2")
    assert rows(tmp_path / "two" / "train.parquet") == one
