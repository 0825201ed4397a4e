"""Values of tokens on their way from a line of rollouts to the page."""

import base64
import gzip
import json

import pytest

from luffy_pl.report.page.blocks import Blocks
from luffy_pl.report.page.token_values import read_values

LINE = {
    "response": "a\x1b\N{GRINNING FACE}",
    "token_characters": [1, 1, 1],
    "logprobs": [0.0, None, -1.0],
    "weights": [1.0, None, 2],
}


def test_lengths_are_those_a_browser_counts_of_what_is_shown():
    # a; <U+001B> spelled out in mathematical brackets; an emoji of two units.
    values = {"n": [1, 8, 2], "p": [0.0, None, -1.0], "w": [1.0, None, 2]}
    assert read_values(LINE) == values
    blocks = Blocks()
    texts = [{"response": "a"}]
    assert blocks.add("p", texts, [values, None]) == [0, 0]
    assert blocks.add("p", texts, [None]) == [0, 1]
    blocks.close_block()
    assert blocks.add("p", texts, [None]) == [1, 0]
    blocks.close_block()
    packed = dict(blocks.packed([0, 1]))
    kept = json.loads(gzip.decompress(base64.b64decode(packed["values-0"])))
    assert kept == [[values, None], [None]]
    # Nothing was kept of the tokens of the second block.
    assert list(packed) == ["texts-0", "values-0", "texts-1"]


@pytest.mark.parametrize(
    "change",
    [
        {"logprobs": [0.0, 1.0]},
        {"logprobs": [0.0, float("nan"), 1.0]},
        {"weights": [0.0, float("inf"), 1.0]},
        {"weights": "abc"},
        {"token_characters": [1, 1, 2]},
        {"token_characters": [2, 2, -1]},
        {"token_characters": [1.0, 1, 1]},
        {"token_characters": None},
        {"response": None},
        {"response": "", "token_characters": [], "logprobs": [], "weights": []},
    ],
)
def test_what_does_not_fit_is_left_out(change):
    assert read_values(LINE | change) is None
