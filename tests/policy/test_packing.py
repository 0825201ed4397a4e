"""Packed rows are the rows alone: nothing of a neighbour or of padding reaches them."""

import pytest
import torch
from training.test_gradient_invariance import VOCAB, in_double, tiny_policy
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from luffy_pl.attention.packing import flash_boundaries, pack, side_by_side, unpack
from luffy_pl.errors import ModelError
from luffy_pl.policy.policy import Policy

NUM_TOKENS = (5, 12, 9)


def rows():
    generator = torch.Generator().manual_seed(0)
    ids_NL = torch.randint(VOCAB, (3, 12), generator=generator)
    position_T = torch.arange(11)
    mask_NT = (position_T >= 2) & (position_T < torch.tensor(NUM_TOKENS)[:, None] - 1)
    return ids_NL, mask_NT


def dense(model, ids_NL, mask_NT, temperature):
    """Every row alone, through the model's own forward pass and all of its logits."""
    model.set_attn_implementation("sdpa")  # eager has a softmax in float32 whatever the weights
    logprob_NT = torch.zeros(mask_NT.shape, dtype=torch.double)
    entropy_NT = torch.zeros_like(logprob_NT)
    for row, length in enumerate(NUM_TOKENS):
        logits_LV = model(input_ids=ids_NL[row : row + 1, :length]).logits[0] / temperature
        logprob_LV = logits_LV.log_softmax(-1)
        for t in mask_NT[row].nonzero()[:, 0].tolist():
            logprob_NT[row, t] = logprob_LV[t, ids_NL[row, t + 1]]
            entropy_NT[row, t] = -(logprob_LV[t].exp() * logprob_LV[t]).sum()
    return logprob_NT, entropy_NT


def gradients(outputs, model):
    logprob_NT, entropy_NT = outputs
    weight_NT = torch.linspace(-1, 2, logprob_NT.numel(), dtype=logprob_NT.dtype)
    weight_NT = weight_NT.view_as(logprob_NT)
    total = (weight_NT * logprob_NT).sum() + 0.3 * (weight_NT.square() * entropy_NT).sum()
    return torch.autograd.grad(total, list(model.parameters()))


def qwen():
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    return Qwen2ForCausalLM(config)


def windowed():
    torch.manual_seed(4)
    config = MistralConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
    )
    return MistralForCausalLM(config)


def llama():
    return tiny_policy().language_model


@pytest.mark.parametrize("make", [llama, qwen, windowed])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("shared", [(0, 0, 0), (0, 3, 3), (0, 4, 4), (0, 2, 0), (0, 0, 6)])
def test_packed_equals_every_row_alone(make, dtype, tolerance, shared):
    ids_NL, mask_NT = rows()
    for row in (1, 2):  # the last row that shares nothing is 0, or 1 for the last example
        lead = max(other for other in range(row + 1) if not shared[other])
        ids_NL[row, : shared[row]] = ids_NL[lead, : shared[row]]
    policy = Policy(in_double(make()).to(dtype))
    packed = policy(ids_NL, mask_NT, num_tokens=NUM_TOKENS, num_shared=shared, temperature=0.7)
    found = gradients(packed, policy)
    model = in_double(make())
    alone = dense(model, ids_NL, mask_NT, 0.7)
    for one, other in zip(packed, alone, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=10 * tolerance)
    for one, other in zip(found, gradients(alone, model), strict=True):
        assert (one - other).norm() <= tolerance * max(1.0, other.norm().item())


def poisoned(policy, row):
    """A row's log-probabilities and entropies where the embedding of word 0 is NaN."""
    ids_NL, mask_NT = rows()
    ids_NL = ids_NL.clamp(min=1)
    for other, length in enumerate(NUM_TOKENS):
        ids_NL[other, length:] = 0
        if other != row:
            ids_NL[other, :length] = 0
    with torch.no_grad():
        policy.language_model.get_input_embeddings().weight[0] = torch.nan
        found = policy(ids_NL, mask_NT, num_tokens=NUM_TOKENS, temperature=1.0)
    return [value_NT[row, mask_NT[row]] for value_NT in found]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_poisoned_neighbour_changes_nothing(row):
    """Tied weights would carry the NaN to every logit: the head is apart here."""
    clean = Policy(qwen())
    ids_NL, mask_NT = rows()
    alone = clean(
        ids_NL.clamp(min=1)[row : row + 1],
        mask_NT[row : row + 1],
        num_tokens=NUM_TOKENS[row : row + 1],
        temperature=1.0,
    )
    for one, other in zip(poisoned(Policy(qwen()), row), alone, strict=True):
        torch.testing.assert_close(one, other[0, mask_NT[row]], rtol=1e-6, atol=1e-6)


def test_attention_does_not_guess_where_rows_begin():
    with pytest.raises(ModelError, match="nobody packed"):
        tiny_policy().language_model(input_ids=torch.ones(1, 4, dtype=torch.long))


def test_rows_side_by_side_by_hand():
    ids_NL = torch.tensor([[7, 8, 9, 0, 0], [4, 5, 6, 1, 0]])
    mask_NT = torch.tensor([[False, True, False, False], [False, True, True, False]])
    rows = side_by_side(ids_NL, mask_NT, (3, 4))
    assert rows.token_ids_nK.tolist() == [[7, 8, 9], [4, 5, 6]]
    assert rows.place_M.tolist() == [1, 4, 5]
    assert rows.target_M.tolist() == [9, 6, 1]
    back = unpack(torch.tensor([1.0, 2.0, 3.0]), rows, mask_NT)
    assert back.tolist() == [[0, 1, 0, 0], [0, 2, 3, 0]]


def test_packing_by_hand():
    ids_NL = torch.tensor([[7, 8, 9, 0], [4, 5, 6, 1]])
    mask_NT = torch.tensor([[False, True, False], [False, True, True]])
    packed = pack(ids_NL, mask_NT, (3, 4), (0, 0))
    assert packed.token_ids_1K.tolist() == [[7, 8, 4, 5, 6]]  # no last tokens, no padding
    assert packed.position_ids_1K.tolist() == [[0, 1, 0, 1, 2]]
    assert packed.place_M.tolist() == [1, 3, 4]
    assert packed.target_M.tolist() == [9, 6, 1]
    assert unpack(torch.tensor([1.0, 2.0, 3.0]), packed, mask_NT).tolist() == [[0, 1, 0], [0, 2, 3]]
    boundaries = flash_boundaries(packed)
    assert boundaries["cu_seq_lens_q"].tolist() == [0, 2, 5]
    assert boundaries["cu_seq_lens_q"].dtype == torch.int32
    assert boundaries["max_length_k"] == 3


def test_packing_of_a_shared_beginning_by_hand():
    ids_NL = torch.tensor([[7, 8, 9, 0], [7, 8, 6, 1], [4, 5, 0, 0]])
    mask_NT = torch.tensor([[False, True, False], [False, True, True], [True, False, False]])
    packed = pack(ids_NL, mask_NT, (3, 4, 2), (0, 2, 0))
    assert packed.token_ids_1K.tolist() == [[7, 8, 6, 4]]
    assert packed.position_ids_1K.tolist() == [[0, 1, 2, 0]]
    assert packed.segment_lengths == (2, 1, 1)
    assert packed.place_M.tolist() == [1, 1, 2, 3]  # 8 predicts 9 in one row and 6 in the other
    assert packed.target_M.tolist() == [9, 6, 1, 5]
