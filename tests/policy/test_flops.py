"""Cost of a token by hand, for models small enough."""

import pytest
import torch
from policy.families import tiny_config
from training.test_gradient_invariance import tiny_policy
from transformers import LlamaConfig, LlamaForCausalLM

from luffy_pl.policy.flops import (
    ForwardCount,
    ModelSize,
    attention_size,
    causal,
    model_size,
    sampling_flops,
    training_passes,
)
from luffy_pl.records import Sampled

SIZE = ModelSize(parameters=10, attention=3)


def test_a_tied_matrix_counts_once_and_an_embedding_not_at_all():
    tied = model_size(tiny_policy().language_model)
    # Two layers: q, k, v, o of 16 x 16, three of 16 x 24, two norms; a norm; the head of 17 x 16.
    assert tied == ModelSize(2 * (4 * 256 + 3 * 384 + 32) + 16 + 272, attention=2 * 16)
    config = LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    assert model_size(LlamaForCausalLM(config)) == tied


def test_heads_may_be_wider_than_the_hidden_states():
    config = LlamaConfig(
        vocab_size=5, hidden_size=8, intermediate_size=4, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    assert model_size(LlamaForCausalLM(config)).attention == 32


def test_layers_without_attention_attend_to_nothing():
    hybrid = tiny_config("qwen3_5_text")
    kinds = hybrid.layer_types
    assert attention_size(hybrid)[0] == kinds.count("full_attention") < len(kinds)
    assert attention_size(tiny_config("mamba")) == (0, 0, 0, 0)


def test_a_forward_pass_by_hand():
    assert causal(4) == 1 + 2 + 3 + 4
    # 2 * 10 * 4 tokens, and 4 * 3 for each of the 10 pairs of a token and one it attends to.
    assert SIZE.forward_flops(4, causal(4)) == 80 + 120
    passes = [
        training_passes(activation_checkpointing=again, adapters=adapters)
        for adapters in (False, True)
        for again in (False, True)
    ]
    assert [2 * number for number in passes] == [6, 8, 4, 6]


def test_a_beginning_is_read_once_for_all_of_its_answers():
    # 3 tokens attend to 1 + 2 + 3; the first answer's to 4 and 5, the second's to 4.
    tokens, attended = 3 + 2 + 1, 6 + 9 + 4
    found = sampling_flops(SIZE, [Sampled(3, (2, 1))])
    assert found == 20 * tokens + 12 * attended
    assert sampling_flops(SIZE, [Sampled(3, ()), Sampled(3, (2, 1))]) == found


def test_forward_passes_are_counted_by_kind_until_they_are_asked_for():
    count = ForwardCount()
    length_N = torch.tensor([3, 2, 9])
    is_row_N = torch.tensor([True, True, False])
    count.add(length_N, is_row_N, trained=True)
    count.add(length_N, is_row_N, trained=True)
    count.add(length_N, torch.tensor([False, True, False]), trained=False)
    assert count.take(trained=True) == (10, 2 * (6 + 3))
    assert count.take(trained=False) == (2, 3)
    assert count.take(trained=True) == (0, 0)


@pytest.mark.parametrize("tokens", [2**27])
def test_sums_are_exact_beyond_single_precision(tokens):
    count = ForwardCount()
    count.add(torch.tensor([tokens, 1]), torch.tensor([True, True]), trained=True)
    assert count.take(trained=True)[0] == tokens + 1
