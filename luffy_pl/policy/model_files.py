"""A language model read from its files."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.settings import PolicyConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def read_model(config: PolicyConfig, path: str, *, is_mapped: bool) -> PreTrainedModel:
    """The model of a folder or hub name.

    Args:
        is_mapped: map its files into memory, as transformers does. Else, where it is a folder, they
            are read weight by weight, so that a file that is cast is not in memory beside the
            result.
    """
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {
        "dtype": getattr(torch, config.dtype),
        "attn_implementation": config.own_attention,
        "use_safetensors": True,
    }
    files = [] if is_mapped or config.remote_code else weight_files(Path(path))
    found = by_weight(path, files, settings) if files else None
    if found is None:
        found = AutoModelForCausalLM.from_pretrained(
            path, **settings, **code_arguments(config.remote_code)
        )
    if not config.remote_code:
        freeze_as_built(found)
    return found


def freeze_as_built(model: PreTrainedModel) -> None:
    """Freeze what the model's class does not train, such as a table of sines or router biases.

    transformers has all weights trained that it loads.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        built = type(model)(deepcopy(model.config))
    for name, weight in built.named_parameters():
        if not weight.requires_grad:
            model.get_parameter(name).requires_grad_(False)


def by_weight(path: str, files: list[Path], settings: dict[str, Any]) -> PreTrainedModel | None:
    """The model, each weight read when it is asked for; None for a part of a larger model."""
    from safetensors import safe_open
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if getattr(kind, "config_class", None) is not type(config):
        return None
    opened = [safe_open(file, framework="pt", backend="pread") for file in files]
    weights = {name: file.get_slice(name) for file in opened for name in file.keys()}  # noqa: SIM118
    return kind.from_pretrained(None, config=config, state_dict=weights, **settings)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, as its index names them; none for a hub name."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text())["weight_map"].values()
        return [folder / name for name in sorted({*names})]
    return [file for file in [folder / "model.safetensors"] if file.is_file()]
