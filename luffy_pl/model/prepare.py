"""A base model made ready for long reasoning: window, rope, template, EOS and pad.

The published recipe trains Qwen2.5-Math with rope theta 40000 instead of 10000, 16384 positions
instead of 4096, and a template that opens the thought. Weights stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luffy_pl.data.chat import render_prompt, with_chat_template
from luffy_pl.data.tokenizer import generation_stop_ids, load_tokenizer
from luffy_pl.errors import ModelError, StorageError, first_line
from luffy_pl.policy.remote_code import code_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

QUESTION = [{"role": "user", "content": "What is 6 times 7?"}]


@dataclass(frozen=True)
class Preparation:
    """What to change; None leaves it."""

    rope_theta: float | None = None
    max_positions: int | None = None
    chat_template: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None


def prepare_model(source: str, out: Path, change: Preparation) -> list[str]:
    """Write the changed model to `out`; returns a line for each thing that is different.

    Raises:
        ModelError: what was asked for does not fit the model.
    """
    folder = local_folder(source)
    if out.exists() and any(out.iterdir()):
        raise StorageError(str(out), "is not empty", fix="give a new folder with --out")
    config, tokenizer = load_config(folder), load_tokenizer(str(folder))
    stops = generation_stop_ids(str(folder))
    lines = [*stretched(config, change)]
    tokenizer, more = named_tokens(with_chat_template(tokenizer, change.chat_template), change)
    lines += more
    window = config.get_text_config().max_position_embeddings
    tokenizer.model_max_length = window
    prompt = render_prompt(tokenizer, QUESTION)
    ends = sorted({tokenizer.eos_token_id, *stops})
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    write(folder, out, config, tokenizer, ends)
    return [
        *lines,
        f"a response ends with {', '.join(map(repr, tokenizer.convert_ids_to_tokens(ends)))}, "
        f"pad is {tokenizer.pad_token!r}",
        f"a prompt ends {prompt[-40:]!r}",
    ]


def local_folder(source: str) -> Path:
    """The folder itself, or a download of the hub's."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(source, ignore_patterns=["*.bin", "*.pth", "*.gguf", "original/*"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            "source",
            f"is no folder, and the hub does not give it ({first_line(error)})",
            value=source,
            fix="correct the name, or give a local folder",
        ) from None


def load_config(folder: Path) -> PreTrainedConfig:
    """config.json of a model folder that holds safetensors."""
    from transformers import AutoConfig

    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            "source", "holds no safetensors", value=str(folder), fix="convert its weights first"
        )
    try:
        return AutoConfig.from_pretrained(folder, **code_arguments(None))
    except (OSError, ValueError) as error:
        raise ModelError(
            "source", f"has no usable config.json ({first_line(error)})", value=str(folder),
            fix="give a Hugging Face model folder",
        ) from error  # fmt: skip


def stretched(config: PreTrainedConfig, change: Preparation) -> Iterator[str]:
    """Set theta and window on `config`; says what changed."""
    text: Any = config.get_text_config()
    rope = dict(text.rope_parameters or {})
    kind, old_theta, old = rope.get("rope_type", "default"), rope.get("rope_theta"), None
    if change.rope_theta is not None:
        if kind != "default" or old_theta is None:
            raise ModelError(
                "rope_theta",
                f"the model's positions are scaled by {kind!r}, which rests on its own theta",
                value=change.rope_theta,
                fix="leave rope_theta out: such a model already has a long window",
            )
        text.rope_parameters = {**rope, "rope_theta": change.rope_theta}
        yield f"rope theta: {old_theta:g} to {change.rope_theta:g}"
    if change.max_positions is not None:
        old = text.max_position_embeddings
        if change.max_positions > old and change.rope_theta is None and kind == "default":
            raise ModelError(
                "max_positions",
                f"is beyond the {old} that rope theta {old_theta:g} was trained for",
                value=change.max_positions,
                fix="raise rope_theta with it: 40000 for Qwen2.5-Math at 16384",
            )
        text.max_position_embeddings = change.max_positions
        yield f"window: {old} to {change.max_positions} tokens"
    if getattr(text, "use_sliding_window", False) and text.sliding_window:
        yield f"note: attention reaches {text.sliding_window} tokens back (sliding window)"


def named_tokens(
    tokenizer: PreTrainedTokenizerBase, change: Preparation
) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """EOS and pad, which must be tokens of the vocabulary; says what changed."""
    lines = []
    for name, wanted in (("eos_token", change.eos_token), ("pad_token", change.pad_token)):
        if wanted is not None and wanted not in tokenizer.get_vocab():
            raise ModelError(
                name, "is no token of the vocabulary", value=wanted,
                fix="name one of its tokens: a new one would have no trained embedding",
            )  # fmt: skip
        if wanted is not None:
            lines.append(f"{name}: {getattr(tokenizer, name)!r} to {wanted!r}")
            setattr(tokenizer, name, wanted)
    if tokenizer.eos_token is None:
        raise ModelError("eos_token", "is missing", fix="name the token that ends a response")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        lines.append(f"pad_token: none to {tokenizer.eos_token!r}, EOS")
    if change.chat_template is not None:
        lines.append(f"chat template: {change.chat_template}")
    return tokenizer, lines


def write(
    folder: Path,
    out: Path,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    ends: list[int],
) -> None:
    """The new folder; weights are linked where the file system can, else copied."""
    from transformers import GenerationConfig

    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
            link_or_copy(file.resolve(), out / file.name)
        config.save_pretrained(out)
        tokenizer.save_pretrained(out)
        try:
            generation = GenerationConfig.from_pretrained(folder)
        except OSError:
            generation = GenerationConfig()
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]
        generation.pad_token_id = tokenizer.pad_token_id
        generation.save_pretrained(out)
        for_older_programs(out / "config.json")
    except OSError as error:
        raise StorageError(
            str(out), f"cannot be written ({first_line(error)})", fix="give another --out"
        ) from error


def link_or_copy(file: Path, target: Path) -> None:
    """A hard link takes no space; another file system needs a copy."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def for_older_programs(file: Path) -> None:
    """Write theta where transformers 4 looks for it too: it would fall back to 10000 unseen."""
    config = json.loads(file.read_text(encoding="utf-8"))
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None:
        config["rope_theta"] = theta
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
