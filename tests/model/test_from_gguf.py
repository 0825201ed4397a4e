"""Embedding and head of a quantized file become one matrix again."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from luffy_pl.errors import ModelError
from luffy_pl.model.from_gguf import tie_head


@pytest.fixture
def untied():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=40, num_hidden_layers=1, tie_word_embeddings=False, **sizes)
    return LlamaForCausalLM(config)


def rounded(weight, step):
    return (weight / step).round() * step


def test_two_roundings_of_one_table_are_one_matrix_in_the_folder(untied, tmp_path):
    table = untied.model.embed_tokens.weight.data.clone()
    untied.model.embed_tokens.weight.data = rounded(table, 0.004)
    untied.lm_head.weight.data = rounded(table, 0.003)
    worst = max((w.weight - table).abs().max() for w in (untied.model.embed_tokens, untied.lm_head))
    tie_head(untied, where="file.gguf")
    untied.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.tie_word_embeddings
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, untied.lm_head.weight)
    assert (loaded.lm_head.weight - table).abs().max() < worst


def test_a_head_of_its_own_is_refused(untied):
    with pytest.raises(ModelError, match="a head that is not its embedding"):
        tie_head(untied, where="file.gguf")


def test_what_is_one_matrix_stays_as_it_is(untied):
    untied.lm_head.weight = untied.model.embed_tokens.weight
    before = untied.lm_head.weight.clone()
    tie_head(untied, where="file.gguf")
    assert torch.equal(untied.lm_head.weight, before)
