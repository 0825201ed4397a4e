"""Texts and values of tokens as the page carries them: packed in blocks, unpacked when looked at.

A block is base64 of gzipped JSON and waits in a temporary file, so that the memory of a page does
not grow with its answers.
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from luffy_pl.report.page.token_values import TokenColumns

# A block is closed when it has this many characters of text, or of groups.
BLOCK_CHARACTERS, BLOCK_GROUPS = 1_000_000, 40
FAST = 3
"""Level of gzip: it takes a third of the time of the default for a tenth more bytes."""


class Blocks:
    """Groups in the order they were added; `has_mathematics` of any text."""

    def __init__(self) -> None:
        self.has_mathematics = False
        self.num_characters = 0
        # It lives as long as the page is made.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._spans: list[dict[str, tuple[int, int]]] = []
        self._texts: list[dict[str, Any]] = []
        self._values: list[Sequence[TokenColumns | None]] = []
        self._size = 0

    def add(
        self, prompt: str, answers: list[dict[str, Any]], values: Sequence[TokenColumns | None]
    ) -> list[int]:
        """Keep a group; returns its block and its place there."""
        at = [len(self._spans), len(self._texts)]
        self._texts.append({"prompt": prompt, "answers": answers})
        self._values.append(values)
        texts = [prompt, *(one["response"] for one in answers)]
        size = sum(map(len, texts))
        self._size += size
        self.num_characters += size
        self.has_mathematics = self.has_mathematics or any("\\" in t or "$" in t for t in texts)
        if self._size >= BLOCK_CHARACTERS or len(self._texts) >= BLOCK_GROUPS:
            self.close_block()
        return at

    def close_block(self) -> None:
        """The next group begins a block."""
        if not self._texts:
            return
        spans = {"texts": self._write(self._texts)}
        if any(values for of_group in self._values for values in of_group):
            spans["values"] = self._write(self._values)
        self._spans.append(spans)
        self._texts, self._values, self._size = [], [], 0

    @property
    def have_values(self) -> bool:
        """Whether a run kept values of tokens."""
        return any("values" in spans for spans in self._spans)

    def packed(self, order: Iterable[int]) -> Iterator[tuple[str, str]]:
        """The blocks in an order: id of the element, and content."""
        for number in order:
            for name, (start, size) in self._spans[number].items():
                self._file.seek(start)
                yield f"{name}-{number}", self._file.read(size).decode("ascii")

    def _write(self, value: Any) -> tuple[int, int]:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # Without a time stamp, so that the same run gives the same page.
        packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=FAST, mtime=0))
        start = self._file.seek(0, 2)
        self._file.write(packed)
        return start, len(packed)
