"""Text of models made fit for a page: nothing of it can be markup, code, or unseen."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

# Control characters but newline and tab, marks that reorder or hide text, lone surrogates.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# What could end a script element or a line of a script.
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def visible(text: str) -> str:
    """The text with every unseen character spelled out, as in <U+202E> for a reordering mark."""
    return UNSEEN.sub(lambda match: f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{ord(match[0]):04X}"
                      "\N{MATHEMATICAL RIGHT ANGLE BRACKET}", text)  # fmt: skip


def visible_value(value: Any) -> Any:
    """`visible` for every value that a template prints; markup of ours stays as it is."""
    return visible(value) if type(value) is str else value


def json_block(value: Any) -> Markup:
    """JSON for `<script type="application/json">`: the same value, without <, > and &."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Nothing in `text` is markup or can end the element it stands in.
    return Markup(text.translate(UNSAFE))


def content_hash(code: str) -> str:
    """What a Content-Security-Policy allows an inline script or style by."""
    digest = hashlib.sha256(code.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def embedded_file(name: str) -> Markup:
    """A file of this folder: written by us, or kept with its hash."""
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
