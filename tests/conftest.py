"""Fixtures shared by all tests: the command line, and a model of random weights."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from forks import LUFFY_PL, Client, Server, ranks_environments, wait_for_all

ROOT = Path(__file__).parents[1]

pytest_plugins = ["plan", "outside"]

# A shell has its background ignore SIGINT, and what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
FORKS = "LUFFY_PL_TEST_FORKS"
"""Variable: the folder of the server that commands are forked from."""
# As in an environment that is activated: commands that are printed begin with `luffy-pl`.
os.environ["PATH"] = f"{LUFFY_PL.parent}{os.pathsep}{os.environ['PATH']}"
# Two processes with two threads each on two cores wait for each other at every barrier.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def work_dir(tmp_path_factory):
    """Make a folder to run a command in: what it may read is linked, what it writes stays there."""

    def make():
        folder = tmp_path_factory.mktemp("work")
        for name in ("conf", "docs", "experiments"):
            (folder / name).symlink_to(ROOT / name)
        return folder

    return make


def pytest_configure(config):
    """One server of forks for all workers of a run; it imports nothing until it is needed."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="luffy-")
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(Server(Path(folder.name)).close)
        os.environ[FORKS] = folder.name


@pytest.fixture(scope="session")
def client():
    """What starts commands as forks."""
    return Client(Path(os.environ[FORKS]))


@pytest.fixture(scope="session")
def start(client, work_dir):
    """Start `luffy-pl ARGS` in a folder of its own; returns the process."""

    def begin(*args, **options):
        return client.start(args, cwd=work_dir(), **options)

    return begin


@pytest.fixture(scope="session")
def luffy_pl(start):
    """Run `luffy-pl ARGS` in a process of its own; returns what it left.

    With `ranks=N` it is N processes that know of each other, as a launcher starts them; with
    `script=FILE` it is that file instead.
    """

    def run(*args, timeout=600, env=None, ranks=1, **options):
        places = [{}] if ranks == 1 else ranks_environments(ranks)
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            options |= {"stdout": stdout, "stderr": stderr}
            processes = [start(*args, env=(env or {}) | place, **options) for place in places]
            try:
                codes = wait_for_all(processes, timeout)
            finally:
                for process in processes:
                    process.kill()
            texts = [file.seek(0) or file.read() for file in (stdout, stderr)]
        return Finished(next(filter(None, codes), 0), *texts)

    return run


@pytest.fixture(scope="session")
def true_start(work_dir):
    """Run `luffy-pl ARGS` as a person would: a new Python, all its imports."""

    def run(*args, timeout=600):
        done = subprocess.run(
            [LUFFY_PL, *map(str, args)], cwd=work_dir(), env=os.environ | {"COLUMNS": "80"},
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def command_line(capsys, monkeypatch, work_dir):
    """`luffy-pl ARGS` in this process: the same code without seconds of imports."""
    from luffy_pl.cli import main

    folder = work_dir()

    def run(*args):
        monkeypatch.chdir(folder)
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as left:  # --print_config and --help leave like this
            code = left.code or 0
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_the_checkout():
    """No test writes a file beside the code."""
    before = files_of_the_checkout()
    yield
    assert sorted(files_of_the_checkout() - before) == []


def files_of_the_checkout():
    """All but hidden folders, environments and what Python compiles."""
    found = set()
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if not name.startswith((".", "__pycache__"))]
        found |= {str(Path(folder, name).relative_to(ROOT)) for name in names}
    return found


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory):
    """A folder with the byte tokenizer and a Qwen2 of random weights, 1024 positions."""
    import torch
    from byte_tokenizer import byte_tokenizer
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("byte_model")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
        rope_theta=10000.0, eos_token_id=258, bos_token_id=258, dtype="float32",
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
