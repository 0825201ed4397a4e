"""Fixtures shared by all tests: the bundled world, the command line, optional data."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Two processes with two threads each on two cores wait for each other at every barrier.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def luffy_pl():
    """Run `luffy-pl ARGS` as a person would; returns the finished process."""

    def run(*args, timeout=600, env=None):
        command = [str(Path(sys.executable).parent / "luffy-pl"), *map(str, args)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "80", **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def pytest_collection_modifyitems(items):
    """Fast tests first: a broken unit is reported before minutes are spent on runs."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command_line(capsys, monkeypatch):
    """`luffy-pl ARGS` in this process: the same code without seconds of imports."""
    from luffy_pl.cli import main

    def run(*args):
        monkeypatch.chdir(ROOT)
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as left:  # --print_config and --help leave like this
            code = left.code or 0
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def data_dir():
    """GSM8K and benchmark files, which are not part of the repository."""
    folder = Path(os.environ.get("LUFFY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.exists():
        pytest.skip(f"needs {folder} (or LUFFY_DATA): GSM8K and benchmark files")
    return folder


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
