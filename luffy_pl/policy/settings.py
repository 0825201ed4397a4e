"""What can be set of the language model: the block `model.policy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.remote_code import check_remote_code


@dataclass(frozen=True)
class PolicyConfig:
    """The language model that is trained."""

    path: str
    """Hugging Face folder or hub name; `bundled:base` is the small model of this project."""
    lora: LoraConfig | None = None
    """Train low-rank adapters on frozen weights; null trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights and of the optimizer's state; adapters are float32 beside either."""
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    """sdpa: PyTorch's attention, row by row, on any device; flash_attention_2: all rows in one
    kernel, on a GPU with the package flash-attn."""
    activation_checkpointing: bool | Literal["selective"] = False
    """Recompute activations in the backward pass. true: of whole layers, the least memory for
    about a third more time; selective: all but matrix products and attention, by the estimate
    half of the memory, and no product twice."""
    compile: bool = False
    """Let torch.compile fuse what a layer does between its matrix products. Once at the beginning,
    in minutes for a large model; rounding differs. On a CPU a C++ compiler must be installed."""
    head_dtype: Literal["compute", "float32"] = "compute"
    """Precision of the logits' matrix product: float32 even where the layers compute in bfloat16,
    whose logits are off by percents; compute: as the layers."""
    replicas: int = bounded(1, at_least=1, at_most=1e6)
    """Whole copies of the weights, each sharded over its share of the ranks (HSDP); 1 shards one
    copy over all. One for each node keeps the gathering of weights inside it."""
    remote_code: str | None = None
    """Commit (40 hexadecimal digits) of a hub model whose own code is run in trainer, tokenizer and
    engine; null runs none."""

    @property
    def own_attention(self) -> str | None:
        """What a model is loaded with; None: sdpa, or eager where that is not built for it."""
        return None if self.attention == "sdpa" else self.attention

    def __post_init__(self) -> None:
        check_bounds(self, "model.policy")
        if self.compile and self.activation_checkpointing == "selective":
            raise ConfigError(
                "model.policy.compile",
                "cannot be with activation_checkpointing: selective, which chooses among the "
                "operations that it fuses",
                value=True,
                fix="use activation_checkpointing: true, or compile: false",
            )
        check_remote_code("model.policy.remote_code", self.remote_code)
