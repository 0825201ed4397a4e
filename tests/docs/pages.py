"""Pages of docs/ taken apart: commands, and files that a reader is told to write."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```', re.M | re.S
)


def pages():
    """Path below docs/ to text."""
    return {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}


def commands(page):
    """Command lines of a page, in order; a script with a title is a file."""
    return [
        line
        for block in BLOCK.finditer(page)
        if block["language"] == "bash" and not block["file"]
        for line in block["text"].replace("\\\n", "").splitlines()
        if line.strip()
    ]


def files(page):
    """Name to content of the files a page shows."""
    return {block["file"]: block["text"] for block in BLOCK.finditer(page) if block["file"]}


def arguments(command):
    """What follows `luffy-pl`, without a redirection."""
    program, *args = shlex.split(command)
    assert program == "luffy-pl", command
    return args[: args.index(">")] if ">" in args else args
