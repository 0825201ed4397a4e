"""Which tests run, in which order, and which stay together in one process."""

import functools
import time
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from luffy_pl.process.garbage import keep_imports, left_alone

TESTS = Path(__file__).parent
# A process, a composed configuration, a run, real workers: fixtures that make them, and names and
# words in the code of a test, of its fixtures and of what they call.
HEAVY_FIXTURES = {
    "command_line", "fake_cells", "luffy_pl", "recipe", "start", "true_start", "verifier",
}  # fmt: skip
HEAVY_NAMES = {
    "ComparisonPool", "MathVerifier", "Popen", "build_verifier", "compose", "composed", "exec",
    "fit", "importorskip", "measure_base", "start_engine", "subprocess", "train_base",
    "train_base_past_gate",
}  # fmt: skip
HEAVY_MARKS = {"slow", "long", "recipes", "runs"}
# Files of minutes, the longest first, so that none of them is alone at the end.
LONGEST = [
    "end_to_end/test_quickstart.py",
    "distributed/test_two_ranks.py",
    "distributed/test_stopped_ranks.py",
    "reward/test_pool.py",
    "recipes/test_runs.py",
    "end_to_end/test_adapters.py",
    "sweep/test_killed_sweep.py",
    "sweep/test_experiments.py",
]


def pytest_addoption(parser):
    group = parser.getgroup("luffy-pl")
    group.addoption("--shard", metavar="I/N", type=shard, help="the I-th of N parts of the files")
    group.addoption(
        "--begin-within",
        metavar="S",
        type=float,
        help="begin no test later than S seconds from now",
    )


def shard(text):
    """`2/3` as two numbers."""
    number, total = map(int, text.split("/"))
    if not 1 <= number <= total:
        raise ValueError(text)
    return number, total


def pytest_configure(config):
    within_s = config.getoption("--begin-within")
    config.last_begin_s = None if within_s is None else time.monotonic() + within_s


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: Python's collector would take a quarter of the time to see that."""
    with left_alone():
        found = yield
    keep_imports()
    return found


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Light files first: a broken unit is reported before minutes are spent on runs."""
    for item in items:
        if needs_runs(item):
            item.add_marker("runs")
    heavy = {file_of(item) for item in items if item.get_closest_marker("runs")}
    items.sort(key=lambda item: (*place(file_of(item), heavy), is_slow(item)))
    yield
    if part := config.getoption("--shard"):
        number, total = part
        files = sorted({file_of(item) for item in items})
        chosen = set(files[number - 1 :: total])
        left_out = [item for item in items if file_of(item) not in chosen]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if file_of(item) in chosen]


def needs_runs(item):
    """Whether a test starts a process, composes a configuration, or trains."""
    marks = {mark.name for mark in item.iter_markers()}
    if HEAVY_MARKS & marks or HEAVY_FIXTURES & set(item.fixturenames):
        return True
    definitions = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.function, *(each.func for found in definitions for each in found)]
    return any(HEAVY_NAMES & words_of(function) for function in functions)


@functools.cache
def words_of(function):
    """Names and words in the code of a function, and of functions of the tests that it calls."""
    words, functions = set(), [function]
    for each in functions:
        own = words_in(each.__code__)
        words |= own
        called = [each.__globals__.get(name) for name in own]
        functions += [one for one in called if is_of_tests(one) and one not in functions]
    return words


def words_in(code):
    inner = [words_in(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inner, filter(is_text, code.co_consts))


def is_text(constant):
    return isinstance(constant, str)


def is_of_tests(found):
    return isinstance(found, FunctionType) and found.__code__.co_filename.startswith(str(TESTS))


def file_of(item):
    return item.path.relative_to(TESTS).as_posix()


def is_slow(item):
    """Whether a test comes after the others of its file: they can break what it shares."""
    return item.get_closest_marker("slow") is not None


def place(name, heavy):
    """Where a file stands in the run: light ones, then the longest, then the others."""
    return name in heavy, LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_runtest_setup(item):
    last_s = item.config.last_begin_s
    if last_s is not None and time.monotonic() > last_s:
        pytest.skip("no time left (--begin-within)")
