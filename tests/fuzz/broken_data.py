"""Files of data and chat templates that were damaged, each in one of many ways."""

import decimal
import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy_pl.bundled import resolve

NUM_ROWS = 12
VALUES = [
    None, "", " ", [], {}, 0, -1, 1e400, float("nan"), True, "\ud800", "\0", "a\u2028b", "é" * 9,
    "1" * 5000, ["1+1=?"], [None], [[]], [{}], [{"role": "user"}], {"content": 1}, [{"role": []}],
    [{"role": "user", "content": None}], [{"role": "tool", "content": "x"}], "<user>", "<eos>",
    "<think>", "\\boxed{", 10**400, {"ground_truth": []}, {"ground_truth": "\ud800"}, [0.5], [-1],
    {"index": {}}, [{"role": "assistant", "content": "<eos>x"}],
]  # fmt: skip
COLUMNS = ["prompt", "target", "reward_model", "data_source", "extra_info", "expert_logprobs", "x"]
OF_PARQUET = [
    pa.array([b"\xff"] * NUM_ROWS), pa.array([decimal.Decimal("1.5")] * NUM_ROWS),
    pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * NUM_ROWS), pa.nulls(NUM_ROWS),
    pa.array(["1+1=?"] * NUM_ROWS).dictionary_encode(), pa.array([[1, 2]] * NUM_ROWS),
    pa.array([{"a": None}] * NUM_ROWS), pa.array([float("nan")] * NUM_ROWS),
    pa.array([[("a", 1)]] * NUM_ROWS, pa.map_(pa.string(), pa.int64())),
    pa.array([2**63 - 1] * NUM_ROWS), pa.array([True] * NUM_ROWS),
]  # fmt: skip
TEMPLATE = [
    "{% for message in messages %}", "<user>", "{{ message.content }}", "{% endfor %}",
    "{% if add_generation_prompt %}", "<assistant><think>", "{% endif %}",
]  # fmt: skip
SNIPPETS = [
    "{{ 1 // 0 }}", "{{ 'x' * 10**10 }}", "{% endfor %}", "{% if", "}}", "{{ messages }}",
    "{{ raise_exception('no') }}", "{% include 'x' %}", "{{ ''.__class__ }}", "{{ messages[9] }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ [] | first | first }}", "{# ",
    "{{ range(10**9) | list }}", "{% set messages = 5 %}", "{{ messages | tojson }}", "\0", "\r",
    "{{ messages.append(1) }}", "{{ cycler() }}", "{{ '%s' % messages }}", "{{ x.y.z }}", "é",
]  # fmt: skip


def good_rows() -> list[dict[str, Any]]:
    """Of the bundled data."""
    with Path(resolve("bundled:train.jsonl")).open() as file:
        return [json.loads(line) for line in itertools.islice(file, NUM_ROWS)]


def as_lines(rows: list[Any]) -> bytes:
    """JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def damaged(text: bytes, rng: random.Random) -> bytes:
    """The text with one thing done to its bytes."""
    place = rng.randrange(len(text))
    ways: list[Callable[[], bytes]] = [
        lambda: text[:place],
        lambda: text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :],
        lambda: text[:place] + rng.choice([b"\0", b"\xff", b"\n", b'"', b"{", b"\\", b"\r"])
        + text[place:],
        lambda: text.replace(b"\n", rng.choice([b"\r\n", b"\n\n", b",\n", b" ", b"\r"])),
        lambda: b"\xef\xbb\xbf" + text,
        lambda: text.decode("latin-1").encode(rng.choice(["utf-16", "utf-32"])),
        lambda: gzip.compress(text),
        lambda: b"",
        lambda: b"[" * 5000 + text,
        lambda: b"null\n" + text,
        lambda: b"[" + text.strip().replace(b"\n", b",") + b"]",
        lambda: text + b'{"prompt": ' + b"9" * 5000 + b"}\n",
        lambda: text.replace(b'"prompt"', b'"question"'),
        lambda: text.replace(b'"prompt"', b'"prompt": 1, "prompt"'),
    ]  # fmt: skip
    return rng.choice(ways)()


def with_wrong_values(rng: random.Random) -> list[Any]:
    """Good rows, and one to three values in one of them that are wrong."""
    rows: list[Any] = good_rows()
    row = rng.choice(rows)
    for _ in range(rng.randint(1, 3)):
        row[rng.choice(COLUMNS)] = rng.choice(VALUES)
    if rng.random() < 0.1:
        rows[rng.randrange(NUM_ROWS)] = rng.choice(VALUES)
    return rows


def write_parquet(path: Path, rng: random.Random) -> None:
    """Good rows with one column of another type; now and then cut off, or without rows."""
    table = pa.Table.from_pylist(good_rows())
    name = rng.choice(table.column_names)
    table = table.set_column(table.column_names.index(name), name, rng.choice(OF_PARQUET))
    pq.write_table(table.slice(0, 0) if rng.random() < 0.1 else table, path)
    if rng.random() < 0.2:
        path.write_bytes(damaged(path.read_bytes(), rng))


def template(rng: random.Random) -> str:
    """The bundled template with some of its parts moved, lost, or others between them."""
    parts = list(TEMPLATE)
    for _ in range(rng.randint(1, 2)):
        way, place = rng.randrange(3), rng.randrange(len(parts))
        if way == 0:
            parts.insert(place, rng.choice(SNIPPETS))
        elif way == 1:
            parts.pop(place)
        else:
            parts[place] = rng.choice(parts)
    return "".join(parts)


def broken_data(num: int, *, seed: int, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of `num` cases; their files lie in `folder`."""
    for number in range(num):
        rng = random.Random(f"data {seed} {number}")
        kind = ("bytes", "values", "parquet", "template", "array")[number % 5]
        suffix = {"parquet": "parquet", "template": "jinja", "array": "json"}.get(kind, "jsonl")
        path = folder / f"{kind}_{number}.{suffix}"
        if kind == "parquet":
            write_parquet(path, rng)
        elif kind == "template":
            path.write_text(template(rng), encoding="utf-8", newline="")
        elif kind == "bytes":
            path.write_bytes(damaged(as_lines(good_rows()), rng))
        else:
            rows = with_wrong_values(rng)
            text = json.dumps(rows).encode() if kind == "array" else as_lines(rows)
            path.write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
        name = "chat_template" if kind == "template" else "path"
        skips = ["--data.train.on_bad_row=skip"] if rng.random() < 0.3 else []
        yield path.name, [f"--data.train.{name}={path}", *skips]
