"""A run or a model folder, loaded so that it can be asked. No code that a folder names is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from luffy_pl.bundled import resolve
from luffy_pl.data.tokenizer import load_tokenizer, longest_context, stop_token_ids
from luffy_pl.model.export import (
    TRAINING_CONFIG,
    base_has_changed,
    parse_run,
    read_run_config,
    run_tokenizer,
)
from luffy_pl.model.weights import find_checkpoint, policy_state
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.saved_names import Conversion, saved_conversion
from luffy_pl.rollout.engine import Dtype, EngineConfig, StreamingEngine
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.start import start_streaming

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EngineKind = Literal["auto", "hf", "vllm"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
MAX_WINDOW = 8192
"""Tokens of a conversation, unless more are asked for: an engine reserves memory for them."""


@dataclass(frozen=True)
class Opened:
    """A model that answers.

    Args:
        title: what it is, for the terminal.
        system_prompt: the system message that it was trained with.
        max_model_len: tokens of a whole conversation.
    """

    title: str
    engine: StreamingEngine
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]
    system_prompt: str | None
    max_model_len: int


@dataclass(frozen=True)
class Wanted:
    """How a model is to be loaded; None leaves it to the run or the folder."""

    kind: EngineKind = "auto"
    dtype: Dtype | None = None
    max_model_len: int | None = None


def open_model(model: str, wanted: Wanted) -> Opened:
    """A run folder, with `@PHASE` for an earlier checkpoint, or a model folder, or a hub name.

    Raises:
        ModelError: no model can be loaded.
        StorageError: the run has no whole checkpoint of that phase.
    """
    run, phase = parse_run(model)
    if (run / "config.yaml").is_file() and not (run / "config.json").is_file():
        return open_run(run, phase, wanted)
    return open_folder(model, wanted)


def open_run(run: Path, phase: int | None, wanted: Wanted) -> Opened:
    """The base of a run with the weights of a checkpoint, adapters merged, as `export` has them."""
    config = read_run_config(run)
    saved = find_checkpoint(run, phase)
    policy, engine_settings = config["model"]["policy"], config["data"].get("engine") or {}
    path = resolve(policy["path"])
    tokenizer = run_tokenizer(config)
    lora = policy.get("lora")
    weights = PolicyWeights(
        policy_state(saved.state),
        prefix="",
        lora_scale=LoraConfig(**lora).scale if lora else None,
        is_repeatable=True,
        conversion=conversion_of(path),
    )
    engine = EngineConfig(
        dtype=wanted.dtype or engine_settings.get("dtype", EngineConfig.dtype),
        max_model_len=window(path, wanted.max_model_len or engine_settings.get("max_model_len")),
    )
    opened = start(f"{run}, phase {saved.phase}", path, engine, wanted.kind, tokenizer, config)
    try:
        opened.engine.load_weights(weights, policy_version=saved.phase)
    except RuntimeError as error:
        raise base_has_changed(saved.state, path, error) from error
    return opened


def open_folder(model: str, wanted: Wanted) -> Opened:
    """A model folder or hub name; an exported one says what it was trained with."""
    path = resolve(model)
    tokenizer = load_tokenizer(path)
    engine = EngineConfig(
        dtype=wanted.dtype or stored_dtype(path),
        max_model_len=window(path, wanted.max_model_len),
    )
    beside = Path(path) / TRAINING_CONFIG
    config = read_run_config(beside.parent, TRAINING_CONFIG) if beside.is_file() else {}
    return start(model, path, engine, wanted.kind, tokenizer, config)


def start(
    title: str,
    path: str,
    engine: EngineConfig,
    kind: EngineKind,
    tokenizer: PreTrainedTokenizerBase,
    config: dict[str, Any],
) -> Opened:
    """The engine, and what has to be known of the model beside it."""
    ends = stop_token_ids(tokenizer)
    started = start_streaming(path, engine, kind=kind, stop_token_ids=ends)
    system_prompt = ((config.get("data") or {}).get("train") or {}).get("system_prompt")
    assert engine.max_model_len is not None
    about = f"{title}: {type(started).__name__.removesuffix('Engine')}, {engine.dtype}"
    return Opened(about, started, tokenizer, tuple(ends), system_prompt, engine.max_model_len)


def window(path: str, wanted: int | None) -> int:
    """Tokens of a conversation: as asked for, else the model's own limit within `MAX_WINDOW`."""
    own = longest_context(path)
    return wanted or (MAX_WINDOW if own is None else min(own, MAX_WINDOW))


def stored_dtype(path: str) -> Dtype:
    """Precision of the weights in a folder; float32 where engines have none such."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, **code_arguments(None))
    stored = str(config.get_text_config().dtype or config.dtype).removeprefix("torch.")
    return next((dtype for dtype in DTYPES if dtype == stored), "float32")


def conversion_of(path: str) -> Conversion | None:
    """How a model's weights become those of a checkpoint, found without loading any."""
    from transformers import AutoConfig, AutoModelForCausalLM

    no_code = code_arguments(None)
    config = AutoConfig.from_pretrained(path, **no_code)
    with torch.device("meta"):
        return saved_conversion(AutoModelForCausalLM.from_config(config, **no_code))
