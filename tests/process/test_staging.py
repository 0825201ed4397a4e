"""What goes to a GPU without waiting goes from pinned memory; a CPU has nothing to wait for."""

import pytest
import torch

from luffy_pl.process.staging import on_device


@pytest.fixture
def asked(monkeypatch):
    """What is asked of tensors, told instead of done."""
    done = []

    def pinned(tensor):
        done.append("pinned")
        return tensor

    def moved(tensor, device, **options):
        done.append((device, options))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    return done


@pytest.mark.parametrize("device", ["cuda", "cuda:3", torch.device("cuda", 3)])
def test_a_copy_to_a_gpu_is_staged(asked, device):
    on_device(torch.arange(3), device)
    assert asked == ["pinned", (device, {"non_blocking": True})]


def test_a_copy_to_the_host_is_not(asked):
    on_device(torch.arange(3), "cpu")
    assert asked == [("cpu", {"non_blocking": True})]


def test_the_same_tensor_stays_where_it_is():
    places = torch.arange(3)
    assert on_device(places, "cpu") is places
    assert on_device(places, "meta").device.type == "meta"
