import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from luffy_pl.policy import head as logprobs
from luffy_pl.policy.head import token_logprob_and_entropy

M, H, V = 23, 6, 11


def head_and_tokens(dtype: torch.dtype) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(H, V, dtype=torch.float64).to(dtype)
    hidden_MH = (3 * torch.randn(M, H, dtype=torch.float64)).to(dtype).requires_grad_()
    return head, hidden_MH, torch.randint(V, (M,))


def computed(
    hidden_MH: Tensor, head: nn.Linear, target_M: Tensor, **settings: Any
) -> tuple[Tensor, Tensor]:
    return token_logprob_and_entropy(hidden_MH, head.weight, target_M, bias_V=head.bias, **settings)


def dense(logits_MV: Tensor, target_M: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The same by the definition, with all logits at once."""
    prob_MV = (logits_MV / temperature).exp()
    prob_MV = prob_MV / prob_MV.sum(-1, keepdim=True)
    logprob_M = prob_MV[torch.arange(len(target_M)), target_M].log()
    return logprob_M, -(prob_MV * prob_MV.log()).sum(-1)


def gradients(
    outputs: tuple[Tensor, Tensor], leaves: list[Tensor], *, entropy_weight: float
) -> tuple[Tensor, ...]:
    """Of a sum in which every token has its own weight, log-probability and entropy apart."""
    logprob_M, entropy_M = outputs
    weight_M = torch.linspace(-1, 2, len(logprob_M), dtype=logprob_M.dtype)
    total = (weight_M * logprob_M).sum() + entropy_weight * (weight_M.square() * entropy_M).sum()
    return torch.autograd.grad(total, leaves)


def test_by_hand():
    # logits log 1, log 3 -> 1/4, 3/4; at temperature 1/2 they are squared: 1/10, 9/10
    hidden_MH = torch.tensor([[1.0, 3.0]]).log()
    target_M = torch.tensor([1])
    logprob_M, entropy_M = token_logprob_and_entropy(hidden_MH, torch.eye(2), target_M)
    assert logprob_M.item() == pytest.approx(math.log(3 / 4))
    # -(1/4) log(1/4) - (3/4) log(3/4)
    assert entropy_M.item() == pytest.approx(math.log(4) - 0.75 * math.log(3))
    logprob_M, _ = token_logprob_and_entropy(hidden_MH, torch.eye(2), target_M, temperature=0.5)
    assert logprob_M.item() == pytest.approx(math.log(0.9))


@pytest.mark.parametrize("chunk_tokens", [1, 4, M - 1, M, 1024])
@pytest.mark.parametrize("tile_logits", [1, 3 * 4, None])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kept_logits", [0, None])
def test_chunks_equal_the_dense_result(
    chunk_tokens: int,
    tile_logits: int | None,
    kept_logits: int | None,
    temperature: float,
    entropy_weight: float,
    dtype: torch.dtype,
):
    head, hidden_MH, target_M = head_and_tokens(dtype)
    leaves = [hidden_MH, head.weight, head.bias]
    ours = computed(
        hidden_MH,
        head,
        target_M,
        temperature=temperature,
        chunk_tokens=chunk_tokens,
        tile_logits=tile_logits,
        kept_logits=kept_logits,
    )
    expected = dense(head(hidden_MH), target_M, temperature)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5}[dtype]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    for one, other in zip(
        gradients(ours, leaves, entropy_weight=entropy_weight),
        gradients(expected, leaves, entropy_weight=entropy_weight),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("wanted", [0, 1])
def test_an_output_without_gradient_costs_and_changes_nothing(wanted: int):
    head, hidden_MH, target_M = head_and_tokens(torch.float64)
    leaves = [hidden_MH, head.weight, head.bias]
    ours = computed(hidden_MH, head, target_M, chunk_tokens=5, tile_logits=20)[wanted]
    expected = dense(head(hidden_MH), target_M, 1.0)[wanted]
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_gradcheck():
    head, hidden_MH, target_M = head_and_tokens(torch.float64)
    torch.autograd.gradcheck(
        lambda hidden, weight, bias: token_logprob_and_entropy(
            hidden, weight, target_M, bias_V=bias, temperature=0.6, chunk_tokens=5, tile_logits=20
        ),
        (hidden_MH, head.weight, head.bias),
    )


def test_bfloat16_logits_are_normalised_in_float32():
    head, hidden_MH, target_M = head_and_tokens(torch.bfloat16)
    ours = computed(hidden_MH, head, target_M, temperature=0.6, chunk_tokens=4, tile_logits=12)
    # only the head runs in bfloat16: from its logits on, the result is exact to float32
    expected = dense(head(hidden_MH).double(), target_M, 0.6)
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)
    leaves = [hidden_MH, head.weight, head.bias]
    mine = gradients(ours, leaves, entropy_weight=0.7)
    # against float64 throughout: 8 bits of mantissa, and a sum over the chunks
    double_head = nn.Linear(H, V, dtype=torch.float64)
    double_head.load_state_dict(head.state_dict())
    double_MH = hidden_MH.detach().double().requires_grad_()
    exact = dense(double_head(double_MH), target_M, 0.6)
    double_leaves = [double_MH, double_head.weight, double_head.bias]
    for one, other in zip(mine, gradients(exact, double_leaves, entropy_weight=0.7), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.double() - other).norm() < 0.03 * other.norm()


def test_large_logits_do_not_overflow():
    hidden_MH = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    logprob_M, entropy_M = token_logprob_and_entropy(hidden_MH, torch.eye(3), torch.tensor([1]))
    (logprob_M + entropy_M).sum().backward()
    assert logprob_M.item() == -2e4
    assert entropy_M.item() == 0.0
    assert hidden_MH.grad.isfinite().all()


def test_no_tokens_still_reach_every_leaf():
    head, hidden_MH, target_M = head_and_tokens(torch.float32)
    body = nn.Linear(H, H)
    hidden_MH = body(hidden_MH.detach())[:0]
    logprob_M, entropy_M = computed(hidden_MH, head, target_M[:0])
    assert logprob_M.shape == entropy_M.shape == (0,)
    (logprob_M.sum() + entropy_M.sum()).backward()
    for leaf in (*body.parameters(), *head.parameters()):
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()


class LargestTensor(TorchDispatchMode):
    """The most elements that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_holds_the_logits_of_more_than_a_tile():
    head, hidden_MH, target_M = head_and_tokens(torch.float32)
    largest, kept = LargestTensor(), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = computed(
            hidden_MH, head, target_M, chunk_tokens=10, tile_logits=30, kept_logits=M * V - 1
        )
        sum(output.sum() for output in outputs).backward()
    assert not [shape for shape in kept if len(shape) == 2 and shape[-1] == V]
    assert largest.elements == max(M * H, V * H)  # far more than the 30 logits of a tile


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every product that makes logits."""
    calls: list[int] = []
    plain = logprobs.product

    def counted(hidden: Tensor, *head: Any) -> Tensor:
        calls.append(len(hidden))
        return plain(hidden, *head)

    monkeypatch.setattr(logprobs, "product", counted)
    return calls


@pytest.mark.parametrize(("kept_logits", "times"), [(M * V, 1), (M * V - 1, 2)])
def test_kept_logits_are_computed_once(calls: list[int], kept_logits: int, times: int):
    head, hidden_MH, target_M = head_and_tokens(torch.float32)
    outputs = computed(hidden_MH, head, target_M, chunk_tokens=10, kept_logits=kept_logits)
    gradients(outputs, [hidden_MH, head.weight, head.bias], entropy_weight=0.7)
    assert calls == [8, 8, 7] * times


def test_a_second_backward_pass_finds_the_kept_logits_unchanged():
    head, hidden_MH, target_M = head_and_tokens(torch.float64)
    outputs = computed(hidden_MH, head, target_M)
    first, second = (
        torch.autograd.grad(sum(out.sum() for out in outputs), head.weight, retain_graph=True)[0]
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_without_gradient_the_logits_are_computed_once(calls: list[int]):
    head, hidden_MH, target_M = head_and_tokens(torch.float32)
    with torch.no_grad():
        logprob_M, _ = computed(hidden_MH, head, target_M, chunk_tokens=10)
    assert calls == [8, 8, 7]
    assert logprob_M.grad_fn is None
    torch.testing.assert_close(logprob_M, dense(head(hidden_MH), target_M, 1.0)[0].detach())
