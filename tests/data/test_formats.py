"""Every format gives the same rows, and every wrong form is one line that names the right one."""

import json
from pathlib import Path

import pytest
from data.formats import FORMATS, ROWS, as_jsonl, parquet, saved, spreadsheet, written

from luffy_pl.data.columns import Columns, file_row, read_question
from luffy_pl.data.rows import read_rows
from luffy_pl.data.source import PromptSource, begin_reading
from luffy_pl.errors import LuffyError

EXPECTED = [
    (row["id"], row["question"], row["answer"], (row["solution"],)) for row in ROWS
]  # fmt: skip


def read(source, **options):
    """What was understood, and each row as (id, question, gold, traces)."""
    understood, rows = begin_reading(source, **options)
    return understood, [
        (one.id, one.messages[-1]["content"], one.ground_truth, one.traces)
        for where, row in rows
        for one in [
            read_question(
                row, where=where, schema=understood.schema, columns=understood.columns,
                needs_answer=False,
            )
        ]
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name, tmp_path):
    understood, found = read(PromptSource(written(name, tmp_path)))
    assert found == EXPECTED
    assert [field for field in ("prompt", "trace") if field in understood.guessed] == (
        []
        if name == "alpaca"
        else ["prompt"]
        if name in ("messages", "sharegpt")
        else ["prompt", "trace"]
    )
    for said in understood.lines():
        assert said.startswith(f"first row {file_row(understood.first)}: prompt=")
        assert said.endswith(" (guessed; settings: columns)")


def test_a_split_is_the_one_that_is_named_or_the_usual_one(tmp_path):
    folder = str(saved(tmp_path / "both", train=ROWS, test=ROWS[:1]))
    for options, places in (
        ({}, [f"{folder}:train:{n}" for n in range(1, 9)]),
        ({"split": "test"}, [f"{folder}:test:1"]),
        ({"usual_split": "test"}, [f"{folder}:test:1"]),
    ):
        assert [where for where, _ in read_rows(folder, **options)] == places
    parquet(tmp_path / "parts" / "dev-0.parquet", ROWS[:2])
    parquet(tmp_path / "parts" / "own-00000-of-00001.parquet", ROWS[:3])
    places = [where for where, _ in read_rows(str(tmp_path / "parts"), split="validation")]
    assert places == [f"{tmp_path}/parts/dev-0.parquet:{n}" for n in (1, 2)]
    assert len(list(read_rows(str(tmp_path / "parts"), split="own"))) == 3


def test_a_record_of_csv_is_named_by_its_first_line(tmp_path):
    rows = [{"question": 'two\nlines, "quoted"', "answer": ""}, {"question": "x", "answer": "2"}]
    path = spreadsheet(tmp_path / "rows.csv", rows)
    assert list(read_rows(str(path))) == [
        (f"{path}:2", {"question": 'two\nlines, "quoted"', "answer": None}),
        (f"{path}:4", {"question": "x", "answer": "2"}),
    ]


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"Problem": "p", "Final_Answer": "1"}, {}, ("Problem", "Final_Answer", "trace")),
        ({"problem": "p", "solution": "42"}, {}, ("problem", "solution", "trace")),
        # A worked solution is no answer.
        ({"problem": "p", "solution": "so \\boxed{42}"}, {}, ("problem", "answer", "solution")),
        ({"problem": "p", "solution": "s", "answer": "1"}, {}, ("problem", "answer", "solution")),
        ({"question": "q", "target": "1", "response": "r"}, {}, ("question", "target", "response")),
        ({"question": "q", "target": ["1"]}, {}, ("question", "answer", "trace")),
        ({"prompt": "p", "question": "q", "answer": "1"}, {}, ("prompt", "answer", "trace")),
        # What is named counts, and "" is none.
        ({"prompt": "p", "gold": "1", "output": "o"}, {"trace": ""}, ("prompt", "gold", None)),
        ({"prompt": "p", "gold": "1", "x": "2"}, {"answer": "x"}, ("prompt", "x", "trace")),
        ({"a": "p", "question": "q", "answer": "1"}, {"prompt": "a"}, ("a", "answer", "trace")),
        ({"instruction": "p", "input": "i", "output": "o", "gold": "1"}, {},
         ("instruction", "gold", "output")),
    ],
)  # fmt: skip
def test_columns_are_guessed_by_the_usual_names(row, columns, expected, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    understood, _ = begin_reading(PromptSource(str(path), columns=Columns(**columns)))
    found = understood.columns
    assert (found.prompt, found.answer, found.trace) == expected


def test_a_column_that_the_first_row_lacks_is_found(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(as_jsonl([{"question": "a", "answer": "1"}, ROWS[0]]))
    assert begin_reading(PromptSource(str(path)))[0].columns.trace == "solution"
    # What is evaluated has no use for one.
    found = begin_reading(PromptSource(str(path)), usual_split="test")[0]
    assert (found.columns.trace, found.guessed) == ("trace", ("prompt",))


def test_the_input_of_alpaca_stands_below_the_instruction(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3", "answer": "3"}
    path.write_text(as_jsonl([row]))
    _, [(_, question, *_)] = read(PromptSource(str(path)))
    assert question == "Add.\n\n1 and 2"


WRONG = {
    "rows.xlsx": (b"PK", "is no format of data that is read, got '.xlsx'", "CSV in UTF-8"),
    "rows.pkl": (b"\x80", "got '.pkl'", "a pickle can run code, and none is read"),
    "rows.arrow": (b"ARROW1", "got '.arrow'", "the folder that save_to_disk wrote"),
    "rows.jsonl.xz": (b"", "got '.xz'", "(.gz) or zstd (.zst)"),
    "rows.txt.gz": (b"", "got '.txt.gz'", "in one of these and .gz or .zst"),
    "rows.parquet.gz": (b"", "Parquet is compressed in itself", "unpack the file once"),
    "rows.jsonl.gz": (b"{}", "is no gzip file, or cut short (", "pack the file again"),
    "rows.json": (b'{"data": [{"a": 1}]}', "one JSON object, and no rows, got 'data'", "jq .data"),
    "dict.json": (b'{\n "question": {"0": "a"}\n}', "got 'question'", "orient='records'"),
    "short.csv": (b"a,b\n1,2\n1\n", "short.csv:3: has 1 cells, and the header has 2", '"..."'),
    "comma.csv": (b"a,b\n1+1, really,2\n", "comma.csv:2: has 3 cells", "double its quotes"),
    "quote.csv": (b'a,b\n"1" or,2\n', "quote.csv:2: invalid CSV: ", "double its quotes"),
    "twice.csv": (b"a,a\n1,2\n", "twice.csv:1: the header names a column twice", "of its own"),
    "empty.csv": (b"a,b\n", "0 rows", "at least one row"),
    "latin.csv": (b"a,b\n1,\xfc\n", "latin.csv:2: not UTF-8 at byte 3", "iconv"),
    "rows.csv": (b"q1;a1\nx;y\n", "prompt is missing or null", "(found: q1, a1)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_names_the_right_form(name, tmp_path):
    content, what, fix = WRONG[name]
    (tmp_path / name).write_bytes(content)
    check_line(tmp_path / name, what, fix)


def check_line(path, what, fix, **settings):
    with pytest.raises(LuffyError) as caught:
        read(PromptSource(str(path), **settings))
    said = str(caught.value)
    assert caught.value.exit_code in (2, 3)
    assert "\n" not in said
    assert Path(path).name in said
    assert what in said.partition("Fix: ")[0]
    assert fix in said.partition("Fix: ")[2]


def test_a_wrong_folder_names_the_right_form(tmp_path):
    def folder(name, *files):
        for file in files:
            parquet(tmp_path / name / file, ROWS[:1])
        return tmp_path / name

    (folder("mixed", "a.parquet") / "a.jsonl").write_text("{}")
    check_line(tmp_path / "mixed", "in several formats", "give one file, for example ")
    check_line(folder("some", "train-1.parquet", "x.parquet"), "got 'x.parquet'", "train-1.parquet")
    check_line(folder("none", "1.parquet"), "has no splits", "remove split", split="train")
    check_line(folder("two", "dev.parquet", "eval.parquet"), "none is called train", "split=")
    check_line(folder("one", "train.parquet"), "no such split, got 'test'", "train", split="test")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.md").write_text("x")
    check_line(tmp_path / "words", "holds no file of data, got 'a.md'", "save_to_disk")
    one = saved(tmp_path / "saved", all=ROWS)
    check_line(one, "is one Dataset, which has no splits", "remove split", split="train")
    next(one.glob("*.arrow")).write_bytes(b"cut")
    check_line(one, "cannot be read as a folder of save_to_disk (", "write it again")


def test_a_wrong_name_names_the_right_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text("{}")
    (tmp_path / "data").mkdir()
    check_line("trian.jsonl", "cannot be opened", "did you mean train.jsonl?")
    check_line("data/rows", "cannot be opened", "a data set of the hub is owner/name")
    check_line("./rows", "cannot be opened", "correct path")
    address = "https://huggingface.co/datasets/openai/gsm8k"
    check_line(address, "is an address", "give the name alone: openai/gsm8k")
    check_line("train.jsonl", "a file has no splits", "remove split", split="train")
    hub = written("hub layout", tmp_path).removesuffix(":main")
    check_line(hub, "could not be loaded from the hub (Config name is missing", f"{hub}:NAME")
