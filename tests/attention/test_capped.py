"""Attention with a soft cap and sinks, against its formula and by hand."""

import math

import pytest
import torch

from luffy_pl.attention.capped import capped_attention

LENGTH = 11


def drawn(dtype=torch.float64):
    """Query of 4 heads, key and value of 2, and a sink of each head, all with gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 4, LENGTH, 8), (1, 2, LENGTH, 8), (1, 2, LENGTH, 6), (4,)
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def window(size):
    place = torch.arange(LENGTH)
    return (place[:, None] >= place) & (place[:, None] - place < size)


def formula(query, key, value, sink, *, band, cap, has_sink):
    """Head by head and query by query."""
    outputs = []
    for head in range(4):
        of_head = []
        for place in range(LENGTH):
            seen = band[place].nonzero()[:, 0]
            score = 0.3 * key[0, head // 2, seen] @ query[0, head, place]
            score = score if cap is None else cap * torch.tanh(score / cap)
            weight = score.exp() / (score.exp().sum() + has_sink * sink[head].exp())
            of_head.append(weight @ value[0, head // 2, seen])
        outputs.append(torch.stack(of_head))
    return torch.stack(outputs)[None]


@pytest.mark.parametrize("most_scores", [1, 4 * LENGTH * 3, 10**6])
@pytest.mark.parametrize("cap", [None, 0.5])
@pytest.mark.parametrize("has_sink", [False, True])
@pytest.mark.parametrize("size", [None, 4])
def test_it_and_its_gradient_are_those_of_the_formula(most_scores, cap, has_sink, size):
    query, key, value, sink = drawn()
    band = window(LENGTH if size is None else size)
    wanted = formula(query, key, value, sink, band=band, cap=cap, has_sink=has_sink)
    found = capped_attention(
        query, key, value, band_SS=None if size is None else band, scale=0.3, cap=cap,
        sink_h=sink if has_sink else None, most_scores=most_scores,
    )  # fmt: skip
    torch.testing.assert_close(found, wanted)
    inputs = [query, key, value] + [sink] * has_sink
    along = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(
        torch.autograd.grad((found * along).sum(), inputs),
        torch.autograd.grad((wanted * along).sum(), inputs),
    )


def test_by_hand():
    """Two tokens and one head: scores 0 and ln 3, a sink of ln 4."""
    query, key = torch.tensor([[[[0.0], [1.0]]]]), torch.tensor([[[[0.0], [math.log(3)]]]])
    value = torch.tensor([[[[8.0], [16.0]]]])
    found = capped_attention(
        query, key, value, band_SS=None, scale=1.0, sink_h=torch.tensor([math.log(4)])
    )
    # 1 / (1 + 4) of 8; (1 of 8 and 3 of 16) / (1 + 3 + 4).
    torch.testing.assert_close(found[0, 0, :, 0], torch.tensor([1.6, 7.0]))


def test_no_more_scores_are_kept_than_asked_for():
    """Of the forward pass, nothing that grows with the square of the row."""
    saved = []
    query, key, value, sink = drawn()

    def keep(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        capped_attention(
            query, key, value, band_SS=None, scale=0.3, cap=1.0, sink_h=sink, most_scores=4 * LENGTH
        )
    assert max(saved, default=0) <= query.numel()
