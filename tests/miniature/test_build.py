import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from luffy_pl.errors import ConfigError
from luffy_pl.miniature import base_model, build
from luffy_pl.miniature.base_model import BaseRecipe
from luffy_pl.miniature.build import DEFAULT_SEED, WORLD, main, write_rows
from luffy_pl.miniature.gate import measure_base
from luffy_pl.miniature.tokenizer import build_tokenizer
from luffy_pl.miniature.world import SPLITS


def test_the_shipped_problems_are_the_ones_that_are_written(tmp_path):
    write_rows(tmp_path, seed=DEFAULT_SEED)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f"{s}.jsonl" for s in SPLITS)
    for file in tmp_path.iterdir():
        assert (WORLD / file.name).read_bytes() == file.read_bytes()


def test_the_shipped_tokenizer_is_the_one_that_is_built(tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        assert (WORLD / "base" / file.name).read_bytes() == file.read_bytes()


def test_the_shipped_base_passes_the_gate():
    model = AutoModelForCausalLM.from_pretrained(WORLD / "base").eval()
    figures = measure_base(model, AutoTokenizer.from_pretrained(WORLD / "base"))
    assert figures.failures() == []


def test_the_shipped_base_is_a_small_llama_in_full_precision():
    config = json.loads((WORLD / "base" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["head_dim"], config["tie_word_embeddings"]) == (32, True)
    weights = load_file(WORLD / "base" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in weights.values()) == 132_096


def test_the_world_stays_small():
    sizes = {file: file.stat().st_size for file in WORLD.rglob("*") if file.is_file()}
    of_teacher = sum(size for file, size in sizes.items() if file.parent.name == "expert")
    assert of_teacher < 600_000
    assert sum(sizes.values()) - of_teacher < 1_000_000


def test_the_command_writes_the_same_layout(tmp_path, monkeypatch, capsys):
    # Two steps and no gate: what is written where, not what the base can do.
    monkeypatch.setattr(build, "train_base_past_gate", _quick_base)
    assert main(["build", "--out", str(tmp_path / "new"), "--seed", "5"]) == 0

    def layout(folder):
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))

    # The teacher is an export of a run over this world.
    shipped = [name for name in layout(WORLD) if not name.startswith("expert")]
    assert layout(tmp_path / "new") == shipped
    figures = json.loads(capsys.readouterr().out)
    assert figures["seed"] == 5
    assert set(figures["accuracy"]) == {"1", "2", "3", "4", "5", "6"}


def test_problems_are_written_without_a_base(tmp_path):
    assert main(["problems", "--out", str(tmp_path / "new"), "--skip", "0.5"]) == 0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(
        f"{split}.jsonl" for split in SPLITS
    )
    written = (tmp_path / "new" / "train.jsonl").read_text().splitlines()
    shipped = (WORLD / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in written] == [
        json.loads(line)["prompt"] for line in shipped
    ]
    assert written != shipped


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["build"],
        ["build", "--out", "x", "--seed", "one"],
        ["problems", "--out", "x", "--skip", "1.5"],
    ],
)
def test_wrong_arguments_are_refused(argv):
    with pytest.raises(ConfigError, match="Fix: ") as refused:
        main(argv)
    assert refused.value.exit_code == 2


def _quick_base(*, seed, **_):
    tokenizer = build_tokenizer()
    recipe = BaseRecipe(num_steps=2, texts_per_step=2)
    model = base_model.train_base(recipe, tokenizer=tokenizer, seed=seed)
    return base_model.Base(model, tokenizer, seed, measure_base(model, tokenizer))
