"""Rows with columns of their own, and two ways of getting the examples into a command."""

import importlib
import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from luffy_pl import registry
from luffy_pl.bundled import resolve

HERE = Path(__file__).parent
EXAMPLES = sorted(
    file
    for file in HERE.glob("*.py")
    if not file.name.startswith(("test_", "conftest", "__init__"))
)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is gone after it."""
    registry.load_plugins([])
    for home in registry.HOMES.values():
        importlib.import_module(home)
    kept = {kind: dict(names) for kind, names in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", defaultdict(dict, kept))
    yield
    registry.load_plugins([])


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install modules with entry points, as pip would leave them; names are `kind.name`."""

    def write(*files, **points):
        folder = tmp_path / "site"
        info = folder / "examples-1.0.dist-info"
        info.mkdir(parents=True)
        for file in files:
            (folder / file.name).write_text(file.read_text())
            monkeypatch.delitem(sys.modules, file.stem, raising=False)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
        lines = [
            f"[luffy_pl.{kind}]\n{name} = {target}\n"
            for kind, named in points.items()
            for name, target in named.items()
        ]
        (info / "entry_points.txt").write_text("".join(lines))
        monkeypatch.syspath_prepend(folder)

    return write


@pytest.fixture
def rows(tmp_path):
    """Eight training rows with a budget, and four problems without gold answers."""
    lines = Path(resolve("bundled:shorter.jsonl")).read_text().splitlines()
    training, asked = tmp_path / "training.jsonl", tmp_path / "asked.jsonl"
    budgets = [{**json.loads(line), "budget": 5 * place} for place, line in enumerate(lines[:8])]
    training.write_text("".join(json.dumps(row) + "\n" for row in budgets))
    prompts = [json.loads(line)["prompt"] for line in lines[:4]]
    keys = [{"prompt": prompt, "keys": ["sum"]} for prompt in prompts]
    asked.write_text("".join(json.dumps(row) + "\n" for row in keys))
    return training, asked
