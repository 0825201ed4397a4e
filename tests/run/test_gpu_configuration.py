"""The published configuration, for eight GPUs, as far as a machine without one can tell it."""

from importlib.util import find_spec

import pytest
from byte_tokenizer import byte_tokenizer

from luffy_pl.policy.architecture import QWEN_7B


@pytest.fixture
def qwen_folder(tmp_path):
    """The shape of Qwen2.5-Math-7B with 16k positions, a tokenizer of bytes, and no weights."""
    config = type(QWEN_7B)(**{**QWEN_7B.to_dict(), "max_position_embeddings": 16384})
    config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.skipif(find_spec("vllm") is None, reason="the configuration asks for vLLM")
def test_all_but_the_card_is_there(command_line, qwen_folder):
    done = command_line(
        "fit", "--config", "conf/luffy.yaml", "--dry_run", "--model.policy.path", qwen_folder,
        "--data.train.path", "bundled:train.jsonl", "--data.train.split", "null",
        "--data.benchmarks", "[]",
        "--run_dir", qwen_folder / "run",
    )  # fmt: skip
    [stop] = done.stderr.splitlines()
    assert stop.startswith("luffy-pl: error [2] trainer.accelerator: ")
    assert "no CUDA GPU" in stop
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("stops")], "more is wrong than the card"
    for expected in (
        f"model     {qwen_folder}: 7,615.6 M parameters, float32; engine vllm",
        "devices   8 x gpu, precision bf16-mixed",
        "a phase   128 prompts x (7 rollouts of at most 8192 tokens + 1 expert trace), "
        "2 optimizer steps",
    ):
        assert expected in lines
    [memory] = [line for line in lines if line.startswith("memory ")]
    assert "of 79.1 GiB of one a100-80g: fits, by the estimate" in memory
    assert any("its weights are not in a folder of this machine" in line for line in lines)
