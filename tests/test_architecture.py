"""Which room may import which: the arrows between the folders of the package."""

import ast
import functools
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "luffy_pl"
GROUND = {"records", "errors", "bundled", "bounds", "registry", "process", "commands"}
ARROWS = {
    "records": "", "errors": "", "bundled": "", "bounds": "", "registry": "", "process": "",
    "commands": "",
    "objective": "", "attention": "", "policy": "attention", "answer": "",
    "reward": "answer data", "miniature": "",
    "rollout": "attention policy",
    "data": "policy",
    "guidance": "data objective",
    "experience": "data guidance objective reward rollout",
    "training": "experience objective policy",
    "evaluation": "run_dir",
    "report": "evaluation run_dir",
    "callbacks": "evaluation experience objective policy report rollout run_dir training",
    "bench": "api experience objective policy reward rollout training",
    "estimate": "bench objective policy rollout training",
    "config": "experience objective policy",
    "run_dir": "config",
    "corpus": "config data policy report reward",
    "traces": "config data reward rollout",
    "run": "callbacks config estimate experience run_dir training",
    "model": "config data evaluation policy report run run_dir",
    "sweep": "evaluation report run run_dir",
    "api": "config run_dir",
    "project": "",
    "chat": "data model policy rollout",
    "cli": "",
}  # fmt: skip
HOME_OF = {
    "vllm": "rollout bench", "aiohttp": "rollout", "pebble": "process", "peft": "policy",
    "jsonargparse": "run config", "openai": "traces", "ray": "sweep", "submitit": "sweep",
}  # fmt: skip
ENTRY_POINTS = {"main", "launch", "cancel", "measure"}
MAX_LOOSE, MAX_ROOM_LINES, MAX_FILE_LINES, MAX_FUNCTION_LINES = 6, 3500, 400, 60


@functools.cache
def files():
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def room_of(module):
    return module.split(".")[1]


@functools.cache
def tree_of(file):
    return ast.parse(file.read_text())


def name_of(file):
    """Dotted name of the module."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def modules():
    return set(map(name_of, files()))


@functools.cache
def imports(file):
    """Dotted names of modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in modules() else node.module for name in inner}
    return found


def test_imports_follow_the_arrows():
    wrong = []
    for file in files():
        here = room_of(name_of(file))
        allowed = GROUND | {here} | set(ARROWS[here].split())
        for name in imports(file):
            root = name.split(".")[0]
            if root == "luffy_pl" and room_of(name) not in allowed:
                wrong.append(f"{file.name}: {here} must not import {room_of(name)}")
            if root in HOME_OF and here not in HOME_OF[root].split():
                wrong.append(f"{file.name}: {root} is imported only in {HOME_OF[root]}")
            assert root not in {"pytorch_lightning", "pdb"}
    assert not wrong


def test_no_circle_of_rooms_or_files():
    graphlib.TopologicalSorter({room: arrows.split() for room, arrows in ARROWS.items()}).prepare()
    graphlib.TopologicalSorter({name_of(file): imports(file) for file in files()}).prepare()


def test_rooms_files_and_functions_stay_small():
    loose = [file.name for file in PACKAGE.glob("*.py") if file.name != "__init__.py"]
    assert len(loose) <= MAX_LOOSE, loose
    lines = {file: len(file.read_text().splitlines()) for file in files()}
    assert not [file for file, count in lines.items() if count > MAX_FILE_LINES]
    for folder in PACKAGE.iterdir():
        inside = sum(count for file, count in lines.items() if folder in file.parents)
        assert inside <= MAX_ROOM_LINES, folder
    for file in files():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{file}: {node.name}"


def test_no_drawer_files():
    drawers = {"utils", "common", "helpers", "base"}
    assert not [file for file in files() if file.stem in drawers]


def public_names(tree):
    """Name and kind of each public class, alias of a type, and function of a file."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                kind = "type"
            case ast.FunctionDef(name=name):
                kind = "function"
            # `dict[str, Any]` and `Callable[...]` are aliases; anything else is a value.
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript()):
                kind = "type"
            case _:
                continue
        if not name.startswith("_"):
            yield name, kind


def test_one_word_is_one_thing():
    """No two files define one type, and no two rooms a function that some file imports."""
    homes, imported = {"type": {}, "function": {}}, set()
    for file in files():
        tree = tree_of(file)
        room = file.relative_to(PACKAGE).parts[0]
        for name, kind in public_names(tree):
            homes[kind].setdefault(name, set()).add(file if kind == "type" else room)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("luffy_pl."):
                imported |= {name.name for name in node.names}
    assert not {name: found for name, found in homes["type"].items() if len(found) > 1}
    rooms = {name: found for name, found in homes["function"].items() if name in imported}
    assert not {n: found for n, found in rooms.items() if len(found) > 1 and n not in ENTRY_POINTS}
