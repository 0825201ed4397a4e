"""Which rows have their attention in one call, and where their tokens are found, by hand."""

import pytest
import torch
from policy.test_packing import llama, qwen, windowed
from training.test_gradient_invariance import VOCAB, in_double

from luffy_pl.attention import blocks
from luffy_pl.attention.blocks import blocks_of, rows_together
from luffy_pl.attention.packing import pack
from luffy_pl.policy.policy import Policy


def packed(num_tokens, num_shared):
    ids_NL = torch.arange(len(num_tokens) * max(num_tokens)).view(len(num_tokens), -1)
    mask_NT = torch.ones(len(num_tokens), max(num_tokens) - 1, dtype=torch.bool)
    return pack(ids_NL, mask_NT, num_tokens, num_shared)


def test_rows_are_joined_while_their_squares_are_near():
    # 9 and 8: 81 - 64 = 17; 9 and 5: 56; 5 and 2: 21.
    assert rows_together([5, 9, 2, 8], 20) == [[1, 3], [0], [2]]
    assert rows_together([5, 9, 2, 8], 21) == [[1, 3], [0, 2]]
    assert rows_together([5, 9, 2, 8], 1000) == [[1, 3, 0, 2]]
    assert rows_together([3, 3, 0], 0) == [[0, 1]]


def test_rows_alone_are_slices(monkeypatch):
    monkeypatch.setitem(blocks.MOST_PADDING, "cpu", 0)
    found = blocks_of(packed((3, 5), (0, 0)))
    assert found.places == (slice(0, 2), slice(2, 6))
    assert found.cell_K is None


def test_places_by_hand():
    """Three rows of 2, 4 and 3 tokens; the third shares two with the second."""
    found = blocks_of(packed((3, 5, 4), (0, 0, 2)))
    [place_nS] = found.places
    # Longest first: row 1 at 2 to 5; row 2 shares 2 and 3, its own is at 6; row 0 at 0 and 1.
    # Behind a row stands its first token again.
    assert place_nS.tolist() == [[2, 3, 4, 5], [2, 3, 6, 2], [0, 1, 0, 0]]
    assert found.cell_K.tolist() == [8, 9, 0, 1, 2, 3, 6]


@pytest.mark.parametrize("make", [llama, qwen, windowed])
@pytest.mark.parametrize("num_shared", [(0, 0, 0, 0, 0), (0, 4, 0, 3, 3), (0, 6, 6, 6, 6)])
def test_joined_or_alone_is_the_same(monkeypatch, make, num_shared):
    num_tokens = (9, 17, 12, 30, 9)
    generator = torch.Generator().manual_seed(0)
    ids_NL = torch.randint(VOCAB, (5, 30), generator=generator)
    for row in range(1, 5):
        lead = max(other for other in range(row + 1) if not num_shared[other])
        ids_NL[row, : num_shared[row]] = ids_NL[lead, : num_shared[row]]
    place_T = torch.arange(29)
    mask_NT = (place_T >= 2) & (place_T < torch.tensor(num_tokens)[:, None] - 1)
    found = []
    for most in (0, 200, 10**6):
        monkeypatch.setitem(blocks.MOST_PADDING, "cpu", most)
        policy = Policy(in_double(make()))
        logprob_NT, entropy_NT = policy(
            ids_NL, mask_NT, num_tokens=num_tokens, num_shared=num_shared, temperature=0.7
        )
        loss = (logprob_NT * torch.linspace(-1, 2, 29)).sum() + entropy_NT.square().sum()
        found.append((logprob_NT, *torch.autograd.grad(loss, list(policy.parameters()))))
    for one, other in zip(found[0] + found[0], found[1] + found[2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
