"""A run's policy as a folder that transformers and vLLM load, and that says where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.bundled import resolve
from luffy_pl.config.guards import check_config_file
from luffy_pl.data.chat import with_chat_template, with_template_defaults
from luffy_pl.data.tokenizer import load_tokenizer, stop_token_ids
from luffy_pl.errors import ConfigError, ModelError, StorageError, first_line
from luffy_pl.model.prepare import for_older_programs
from luffy_pl.model.weights import find_checkpoint, policy_state
from luffy_pl.policy.lora import LoraConfig, merged_weights
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.process.files import save_model
from luffy_pl.run_dir.checkpoints import SavedPhase

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRAINING_CONFIG = "training_config.yaml"
"""The configuration of the run, in the folder of its export."""


@dataclass(frozen=True)
class Exported:
    """What was written, for the card and the terminal."""

    run: Path
    checkpoint: SavedPhase
    config: dict[str, Any]
    num_parameters: int


def export(run: Path, out: Path, *, phase: int | None, dtype: str | None) -> Exported:
    """Write weights, tokenizer, template and generation settings of a checkpoint to `out`.

    Args:
        phase: phases trained; None takes the newest checkpoint.
        dtype: of the written weights; None keeps that of the training.
    """
    config = read_run_config(run)
    checkpoint = find_checkpoint(run, phase)
    if out.exists() and any(out.iterdir()):
        raise StorageError(str(out), "is not empty", fix="give a new folder with --out")
    path = resolve(config["model"]["policy"]["path"])
    model = load_trained(
        path,
        checkpoint.state,
        dtype or config["model"]["policy"]["dtype"],
        lora=config["model"]["policy"].get("lora"),
    )
    tokenizer = run_tokenizer(config)
    try:
        write(model, tokenizer, out)
    except OSError as error:
        raise StorageError(
            str(out), f"cannot be written ({first_line(error)})", fix="give another --out"
        ) from error
    return Exported(run, checkpoint, config, model.num_parameters())


def parse_run(text: str) -> tuple[Path, int | None]:
    """`outputs/run@120` is phase 120 of outputs/run."""
    folder, at, phase = text.rpartition("@")
    if not at or Path(text).is_dir():
        return Path(text), None
    if not phase.isdecimal():
        raise ConfigError("run", "has no phase behind @", value=text, fix="such as outputs/run@120")
    return Path(folder), int(phase)


def read_run_config(folder: Path, name: str = "config.yaml") -> dict[str, Any]:
    """The configuration in the folder of a run, or in that of its export."""
    check_config_file(str(folder / name), is_config=True)
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / name), resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise StorageError(
            str(folder), f"has no usable {name} ({first_line(error)})",
            fix="give the folder of a run of fit",
        ) from None  # fmt: skip
    if not isinstance(config, dict) or "model" not in config:
        raise StorageError(str(folder), f"{name} is not that of a run", fix="give a run folder")
    return {str(name): value for name, value in config.items()}


def run_tokenizer(config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a run, whose template asks as the run did."""
    source = config["data"].get("train") or {}
    tokenizer = load_tokenizer(resolve(config["model"]["policy"]["path"]))
    return with_template_defaults(
        with_chat_template(tokenizer, source.get("chat_template")),
        config["data"].get("chat_template_kwargs"),
    )


def load_trained(
    path: str, checkpoint: Path, dtype: str, *, lora: dict[str, Any] | None
) -> PreTrainedModel:
    """The base with every weight replaced by the trained one, adapters merged."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=getattr(torch, dtype), use_safetensors=True, **code_arguments(None)
    )
    scale = LoraConfig(**lora).scale if lora else None
    try:
        weights = merged_weights(policy_state(checkpoint), scale=scale)
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise base_has_changed(checkpoint, path, error) from error
    return model.eval()


def base_has_changed(checkpoint: Path, path: str, error: RuntimeError) -> ModelError:
    """Weights that do not fit the model they were trained from."""
    return ModelError(
        str(checkpoint),
        f"does not fit model.policy.path={path} ({first_line(error)})",
        fix="the run's base model has changed since; put the old one back",
    )


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """The folder; a response ends where it ended in training."""
    ends = stop_token_ids(tokenizer)
    generation = model.generation_config
    if generation is not None:
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]
        generation.pad_token_id = tokenizer.pad_token_id
    save_model(model, out)
    tokenizer.save_pretrained(out)
    for_older_programs(out / "config.json")
