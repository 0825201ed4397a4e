"""Log-probabilities and gradients of a small model, beside those of the CPU in float32.

Shapes: N rows, L tokens, T = L - 1 predictions.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from skipping import Skipped, needs_gpu
from torch import Tensor, nn

from luffy_pl.policy import head
from luffy_pl.policy.loading import load_sharded
from luffy_pl.policy.lora import LoraConfig, whole
from luffy_pl.policy.policy import Policy, load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.policy.sharding import Sharding, meshes
from luffy_pl.process.neighbours import neighbours

SIZES = {
    "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "max_position_embeddings": 1024,
}  # fmt: skip
LENGTHS, SHARED = (500, 180, 64, 333, 90, 411), (0, 40, 40, 0, 40, 40)
# Distance of gradients over their length; nats of log-probabilities, at most and on average.
FLOAT32, BFLOAT16 = (1e-3, 1e-3, 1e-4), (0.1, 0.5, 0.05)
Found = tuple[Tensor, Tensor]


def rows() -> tuple[Tensor, Tensor]:
    """Token ids [N, L] of rows that share beginnings, and the predictions to look at [N, T]."""
    generator = torch.Generator().manual_seed(0)
    ids_NL = torch.randint(SIZES["vocab_size"], (len(LENGTHS), max(LENGTHS)), generator=generator)
    for row, shared in enumerate(SHARED):
        if shared:
            lead = max(one for one in range(row) if not SHARED[one])
            ids_NL[row, :shared] = ids_NL[lead, :shared]
    lengths_N = torch.tensor(LENGTHS)
    mask_NT = torch.arange(max(LENGTHS) - 1) < lengths_N[:, None] - 1
    mask_NT[:, :8] = False
    return ids_NL, mask_NT


def values(policy: Policy, device: str) -> Found:
    """Log-probabilities, and the gradient of all trained weights in one line, on the CPU."""
    ids_NL, mask_NT = rows()
    policy.train()
    logprob_NT, entropy_NT = policy(
        ids_NL.to(device), mask_NT, num_tokens=LENGTHS, num_shared=SHARED, temperature=0.9
    )
    weight_NT = torch.linspace(-1, 2, mask_NT.numel(), device=device).view(mask_NT.shape)
    loss = (logprob_NT * weight_NT).sum() + 0.1 * entropy_NT.sum()
    (loss / mask_NT.sum()).backward()
    gradients = [whole(weight.grad).float().cpu().flatten() for weight in policy.trained_weights()]
    return logprob_NT.detach().float().cpu(), torch.cat(gradients)


def compared(found: Found, expected: Found, limits: tuple[float, float, float]) -> dict[str, Any]:
    """Distances, which are at most the limits."""
    mask_NT = rows()[1]
    gaps = (found[0] - expected[0]).abs()[mask_NT]
    gradient = ((found[1] - expected[1]).norm() / expected[1].norm()).item()
    figures = {
        "gradient": gradient, "nats_most": gaps.max().item(), "nats_mean": gaps.mean().item()
    }  # fmt: skip
    for value, limit, name in zip(figures.values(), limits, figures, strict=True):
        assert value <= limit, f"{name} is off by {value:.3g}, more than {limit:g}"
    return figures


@contextmanager
def model_folder() -> Iterator[str]:
    """A Llama of random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)
        yield folder


def load(folder: str, device: str, settings: dict[str, Any], *, is_half: bool = False) -> Policy:
    """A policy on a device, in the precision of a run there."""
    policy = load_policy(PolicyConfig(folder, **settings), folder).to(device)
    if "lora" in settings:
        fill_adapters(policy)
    if is_half:
        policy.context = partial(torch.autocast, device, torch.bfloat16, cache_enabled=False)
    return policy


def fill_adapters(policy: nn.Module) -> None:
    """B starts at 0, where A has no gradient."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.named_parameters():
        if ".lora_B." in name:
            values = 0.02 * torch.randn(weight.shape, generator=generator)
            weight.data = values.to(weight.device)


def variant(
    device: str,
    *,
    is_half: bool = False,
    change: Callable[[], None] = lambda: None,
    **settings: Any,
) -> dict[str, Any]:
    """A setting of the policy on the device, beside the same adapters on the CPU.

    Args:
        change: made to the program before the device computes.
    """
    torch.set_float32_matmul_precision("highest")
    plain = {name: value for name, value in settings.items() if name == "lora"}
    with model_folder() as folder:
        expected = values(load(folder, "cpu", plain), "cpu")
        change()
        found = values(load(folder, device, settings, is_half=is_half), device)
    return compared(found, expected, BFLOAT16 if is_half else FLOAT32)


def compiled(device: str) -> dict[str, Any]:
    """Layers by torch.compile."""
    if device == "cpu" and not shutil.which("c++"):
        raise Skipped("needs a C++ compiler")
    return variant(device, compile=True)


def small_tiles() -> None:
    """Let the head keep nothing and compute in small tiles, as it does for many logits."""
    head.KEPT, head.KEPT_GPU = {"cpu": 0}, 0
    head.TILES, head.TILE_GPU = {"cpu": (128, 2**16)}, (128, 2**16)


def flash(device: str) -> dict[str, Any]:
    """All rows in one kernel."""
    needs_gpu(device)
    if find_spec("flash_attn") is None:
        raise Skipped("flash-attn is not installed")
    return variant(device, is_half=True, attention="flash_attention_2")


def sharded(device: str, *, on_host: bool = False, is_half: bool = False) -> dict[str, Any]:
    """FSDP2 on one rank: NCCL on a GPU, gloo on a CPU."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    torch.set_float32_matmul_precision("highest")
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", store=dist.HashStore(), rank=0,
        world_size=1,
    )  # fmt: skip
    mesh = init_device_mesh(device, (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    sharding = Sharding(
        meshes(mesh, replicas=1), torch.device("cuda:0" if device == "cuda" else "cpu"),
        torch.bfloat16 if is_half else torch.float32, on_host=on_host,
    )  # fmt: skip
    with model_folder() as folder:
        expected = values(load(folder, "cpu", {}), "cpu")
        policy = load_sharded(PolicyConfig(folder), folder, sharding, neighbours(1))
        if on_host:
            from luffy_pl.policy.frozen import move_buffers

            move_buffers(policy, sharding.device)
        found = values(policy, device)
    dist.destroy_process_group()
    return compared(found, expected, BFLOAT16 if is_half else FLOAT32)


def attention_paths(device: str) -> dict[str, Any]:
    """Every way of attention, by a family that needs it: packed rows beside rows alone, in nats."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from luffy_pl.errors import ModelError

    torch.set_float32_matmul_precision("highest")
    found: dict[str, Any] = {}
    for family in ("llama", "qwen3", "gemma2", "gemma3_text", "gpt_oss"):
        config = AutoConfig.for_model(family)
        for name, size in {**SIZES, "num_local_experts": 4, "sliding_window": 32}.items():
            if hasattr(config, name):
                setattr(config, name, size)
        if hasattr(config, "layer_types"):
            config.layer_types = (["sliding_attention", "full_attention"] * 2)[:4]
            if family in ("llama", "qwen3"):
                config.layer_types = ["full_attention"] * 4
        torch.manual_seed(0)
        try:
            policy = Policy(AutoModelForCausalLM.from_config(config))
        except ModelError as error:
            found[family] = f"refused ({error.what[:60]})"
            continue
        found[family] = policy.to(device).check()
    return found


CHECKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "float32": variant,
    "bf16_mixed": partial(variant, is_half=True),
    "head_float32": partial(variant, is_half=True, head_dtype="float32"),
    "head_tiles": partial(variant, change=small_tiles),
    "checkpointing": partial(variant, activation_checkpointing=True),
    "selective": partial(variant, activation_checkpointing="selective"),
    "compile": compiled,
    "lora": partial(variant, lora=LoraConfig(rank=4)),
    "flash_attention_2": flash,
    "attention_paths": attention_paths,
    "fsdp": sharded,
    "fsdp_bf16": partial(sharded, is_half=True),
    "offload": partial(sharded, on_host=True),
}
