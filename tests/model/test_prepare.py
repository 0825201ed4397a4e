"""Tiny folders of the published families, made ready for long reasoning."""

import json

import pytest
import torch
from byte_tokenizer import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

THINK = "conf/template/think.jinja"


@pytest.fixture
def prepare(command_line, tmp_path):
    def run(source, *args):
        return command_line("model", "prepare", source, "--out", tmp_path / "out", *args)

    return run


@pytest.fixture
def llama(tmp_path):
    """As Llama-3.1: scaled positions, no pad token, and two tokens that end a turn."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 256,
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        rope_parameters=rope, eos_token_id=[258, 257], bos_token_id=258,
    )  # fmt: skip
    folder = tmp_path / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer(chat_template=None).save_pretrained(folder)
    return folder


def test_qwen_math_becomes_a_long_thinking_model(prepare, byte_model, tmp_path):
    done = prepare(
        byte_model, "--rope_theta", "40000", "--max_positions", "16384", "--chat_template", THINK
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    config = AutoConfig.from_pretrained(out)
    assert config.rope_parameters == {"rope_theta": 40000.0, "rope_type": "default"}
    assert config.max_position_embeddings == 16384
    # transformers 4 reads it here.
    assert json.loads((out / "config.json").read_text())["rope_theta"] == 40000.0
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == 16384
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    assert config.eos_token_id == config.pad_token_id == 258
    assert GenerationConfig.from_pretrained(out).eos_token_id == 258
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2?"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "User: This is the problem:\n2+2?\nAssistant: <think>\n"
    assert "rope theta: 10000 to 40000" in done.stdout
    assert "window: 1024 to 16384 tokens" in done.stdout
    assert (out / "model.safetensors").samefile(byte_model / "model.safetensors")


def test_theta_moves_the_model_and_the_weights_stay(prepare, byte_model, tmp_path):
    assert prepare(byte_model, "--rope_theta", "40000").returncode == 0
    old, new = (AutoModelForCausalLM.from_pretrained(f) for f in (byte_model, tmp_path / "out"))
    for name, weight in old.state_dict().items():
        assert torch.equal(weight, new.state_dict()[name])
    ids = torch.arange(40)[None]
    assert not torch.allclose(old(ids).logits[0, -1], new(ids).logits[0, -1], atol=1e-6)


def test_llama_keeps_its_scaled_positions_and_gets_pad_and_template(prepare, llama, tmp_path):
    done = prepare(
        llama, "--eos_token", "<|im_end|>", "--chat_template", "conf/template/step_by_step.jinja"
    )
    assert done.returncode == 0, done.stderr
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.rope_parameters["rope_type"] == "llama3"
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == [257, 258]
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<|im_end|>"
    assert "Let's think step by step." in done.stdout


def test_what_does_not_fit_is_one_line(prepare, byte_model, llama, tmp_path):
    for source, args, code, says in (
        (byte_model, ("--max_positions", "16384"), 4, "beyond the 1024 that rope theta 10000"),
        (llama, ("--rope_theta", "1e6", "--chat_template", THINK), 4, "scaled by 'llama3'"),
        (llama, (), 4, "has no chat template"),
        (byte_model, ("--pad_token", "<pad>"), 4, "pad_token: is no token of the vocabulary"),
        (tmp_path / "absent", (), 4, "the hub does not give it"),
    ):
        done = prepare(source, *args)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    assert "is not empty" in prepare(byte_model).stderr
