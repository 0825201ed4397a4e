import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from luffy_pl.policy import product as products
from luffy_pl.policy.product import (
    CpuLinear,
    add_product,
    onednn_products,
    product,
    use_cpu_linear,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("is_view", [False, True])
def test_product_is_left_times_right_transposed(dtype, is_view):
    torch.manual_seed(0)
    left, right, bias = torch.randn(9, 7), torch.randn(5, 7), torch.randn(5)
    expected = (left.double() @ right.double().t() + bias.double()).to(dtype)
    left, right = (x.t().contiguous().t() if is_view else x for x in (left, right))
    found = product(left.to(dtype), right.to(dtype), bias.to(dtype))
    assert found.dtype == dtype
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_view", [False, True])
@pytest.mark.parametrize("is_for", ["all", "contiguous", "none"])
def test_add_product_adds_to_what_is_there(dtype, is_view, is_for, monkeypatch):
    onednn = None if is_for == "none" else torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(products, "_ONEDNN", onednn)
    monkeypatch.setattr(products, "_TAKES_VIEWS", is_for == "all")
    monkeypatch.setattr(products, "LEAST_NUMBERS", 1)
    torch.manual_seed(0)
    left, right, into = torch.randn(9, 7), torch.randn(7, 5), torch.randn(9, 5)
    expected = into.double() + left.double() @ right.double()
    add_product(into, (left.t().contiguous().t() if is_view else left).to(dtype), right.to(dtype))
    assert into.dtype == torch.float32
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(into, expected.float(), atol=tolerance, rtol=tolerance)
    unwritten = torch.full_like(into, torch.nan)
    add_product(unwritten, left.to(dtype), right.to(dtype), is_first=True)
    alone = left.double() @ right.double()
    torch.testing.assert_close(unwritten, alone.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("bias", [False, True])
def test_a_swapped_layer_has_the_same_output_gradients_and_names(bias, monkeypatch):
    monkeypatch.setattr(products, "LEAST_NUMBERS", 1)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8, bias=bias), nn.Tanh(), nn.Linear(8, 3, bias=bias))
    swapped = nn.Sequential(nn.Linear(6, 8, bias=bias), nn.Tanh(), nn.Linear(8, 3, bias=bias))
    swapped.load_state_dict(plain.state_dict())
    use_cpu_linear(swapped)
    assert isinstance(swapped[0], CpuLinear)
    assert list(swapped.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 5, 6, requires_grad=True)
    found, expected = (
        torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])
        for model in (swapped, plain)
    )
    torch.testing.assert_close(swapped(x), plain(x), rtol=1e-5, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("vendor", "family", "flags", "expected"),
    [
        ("AuthenticAMD", 25, "fpu avx2", "none"),
        ("AuthenticAMD", 25, "fpu avx2 avx512f avx512dq", "contiguous"),
        ("AuthenticAMD", 26, "fpu avx2 avx512f", "all"),
        ("GenuineIntel", 26, "fpu avx512f", "none"),
    ],
)
def test_onednn_is_for_wide_processors_of_amd(vendor, family, flags, expected):
    lines = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\n"
    assert onednn_products(f"{lines}flags\t\t: {flags}\n") == expected
    assert onednn_products("Processor : AArch64\n") == "none"


@pytest.mark.parametrize("is_view", [False, True])
def test_a_small_factor_or_a_view_stays_with_mkl(is_view, monkeypatch):
    asked, onednn = [], torch.ops.mkldnn._linear_pointwise

    def counted(*args):
        asked.append(args)
        return onednn(*args)

    monkeypatch.setattr(products, "_ONEDNN", counted)
    monkeypatch.setattr(products, "_TAKES_VIEWS", False)
    left = torch.randn(8, 256).t().contiguous().t() if is_view else torch.randn(8, 256)
    for words, is_large in ((64, False), (128, True)):
        right = torch.randn(words, 256)
        torch.testing.assert_close(product(left, right), left @ right.t(), rtol=1e-4, atol=1e-4)
        assert bool(asked) is (is_large and not is_view)


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_layer_that_ranks_cut_stays_with_torch(one_rank, monkeypatch):
    monkeypatch.setattr(products, "_ONEDNN", torch.ops.mkldnn._linear_pointwise)
    monkeypatch.setattr(products, "LEAST_NUMBERS", 1)
    layer = nn.Sequential(nn.Linear(6, 8))
    x = torch.randn(4, 6)
    expected = layer(x)
    use_cpu_linear(layer)
    parallelize_module(layer, one_rank, {"0": ColwiseParallel()})
    torch.testing.assert_close(layer(x), expected)
