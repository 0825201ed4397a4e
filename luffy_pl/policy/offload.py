"""Weights, gradients and moments on the host; the device holds what it computes with."""

from __future__ import annotations

from lightning.pytorch.strategies import ModelParallelStrategy


class OffloadStrategy(ModelParallelStrategy):
    """`ModelParallelStrategy` whose sharded weights stay on the host.

    FSDP2 takes a layer's weights to the device when they are gathered and its gradient back; the
    optimizer steps on the host. The process group needs a backend for either: "cpu:gloo,cuda:nccl".
    """

    def model_to_device(self) -> None:
        """Buffers go to the device; FSDP2 refuses weights that Lightning would move there."""
        assert self.model is not None
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(self.root_device))
        # Where it computes, as Lightning's own move would have noted.
        assert self.lightning_module is not None
        self.lightning_module._device = self.root_device
