"""The same rows in every form that people have them in."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [
    {"id": str(n), "question": f"{n}+3={'?'}", "answer": str(n + 3),
     "solution": f"so{n}+3={n + 3}</think>\\boxed{{{n + 3}}}"}
    for n in range(10, 18)
]  # fmt: skip


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def with_messages(row):
    turns = (("user", row["question"]), ("assistant", row["solution"]))
    messages = [{"role": role, "content": text} for role, text in turns]
    return {"id": row["id"], "messages": messages, "answer": row["answer"]}


def shared(row):
    turns = [{"from": "human", "value": row["question"]}, {"from": "gpt", "value": row["solution"]}]
    return {"id": row["id"], "conversations": turns, "answer": row["answer"]}


def alpaca(row):
    return {"id": row["id"], "instruction": row["question"], "input": "", "answer": row["answer"],
            "output": row["solution"]}  # fmt: skip


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def spreadsheet(path, rows, **options):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def packed(path, content):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    else:
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(content)
    return path


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def in_parts(folder, name, write):
    """Two files, so that the order of files counts."""
    folder.mkdir()
    write(folder / name.format(0), ROWS[:5])
    write(folder / name.format(1), ROWS[5:])
    return folder


def saved(folder, **splits):
    from datasets import Dataset, DatasetDict

    made = {name: Dataset.from_list(rows) for name, rows in splits.items()}
    (DatasetDict(made) if len(made) > 1 else next(iter(made.values()))).save_to_disk(folder)
    return folder


def hub_layout(folder):
    """A copy of a data set of the hub whose card names two configurations."""
    parquet(folder / "main" / "train-00000-of-00001.parquet", ROWS)
    parquet(folder / "other" / "train-00000-of-00001.parquet", ROWS[:1])
    configs = "".join(
        f"- config_name: {name}\n  data_files: {name}/train-*\n" for name in ("main", "other")
    )
    text(folder / "README.md", f"---\nconfigs:\n{configs}---\nWords.\n")
    return f"{folder}:main"


FORMATS = {
    "jsonl": lambda f: text(f / "rows.jsonl", as_jsonl(ROWS)),
    "json array": lambda f: text(f / "rows.json", json.dumps(ROWS, indent=2)),
    "csv": lambda f: spreadsheet(f / "rows.csv", ROWS),
    "csv of Excel": lambda f: spreadsheet(f / "rows.csv", ROWS, delimiter=";"),
    "tsv": lambda f: spreadsheet(f / "rows.tsv", ROWS, delimiter="\t"),
    "parquet": lambda f: parquet(f / "rows.parquet", ROWS),
    "jsonl.gz": lambda f: packed(f / "rows.jsonl.gz", as_jsonl(ROWS).encode()),
    "json.zst": lambda f: packed(f / "rows.json.zst", json.dumps(ROWS).encode()),
    "csv.gz": lambda f: packed(
        f / "rows.csv.gz", spreadsheet(f / "one.csv", ROWS).read_bytes()
    ),
    "messages": lambda f: text(f / "rows.jsonl", as_jsonl(map(with_messages, ROWS))),
    "sharegpt": lambda f: text(f / "rows.json", json.dumps([*map(shared, ROWS)])),
    "alpaca": lambda f: text(f / "rows.json", json.dumps([*map(alpaca, ROWS)])),
    "Dataset": lambda f: saved(f / "saved", all=ROWS),
    "DatasetDict": lambda f: saved(f / "saved", train=ROWS, test=ROWS[:1]),
    "folder of parquet": lambda f: in_parts(f / "parts", "{}.parquet", parquet),
    "folder of jsonl": lambda f: in_parts(
        f / "parts", "{}.jsonl", lambda path, rows: text(path, as_jsonl(rows))
    ),
    "folder of json": lambda f: in_parts(
        f / "parts", "{}.json", lambda path, rows: text(path, json.dumps(rows))
    ),
    "folder with splits": lambda f: (
        parquet(f / "parts" / "test-0.parquet", ROWS[:1]),
        in_parts(f / "parts" / "data", "train-{}.parquet", parquet),
    )[1].parent,
    "hub layout": lambda f: hub_layout(f / "hub"),
}  # fmt: skip
"""Name to a function of a folder that writes the rows and returns what to give as path."""


def written(name, folder: Path) -> str:
    return str(FORMATS[name](folder))
