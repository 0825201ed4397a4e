"""A section of names and their fields is laid over earlier ones field by field."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from luffy_pl.config.named import lay_named
from luffy_pl.config.sources import read_sources
from luffy_pl.registry import register
from luffy_pl.run.composition import compose

TERMS = "model.objective.terms"


@register("loss_term", "mine")
@dataclass(frozen=True)
class Mine:
    coef: float
    scale: float = 1.0
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens, step):
        return tokens.logprob_NT


def laid(tmp_path, *layers):
    """What is written out of layers that are files (dicts) or arguments."""
    argv = ["fit"]
    for number, layer in enumerate(layers):
        if isinstance(layer, str):
            argv.append(layer)
            continue
        file = tmp_path / f"{number}.yaml"
        file.write_text(json.dumps({"model": {"objective": {"terms": layer}}}))
        argv += ["--config", str(file)]
    last = lay_named(argv, read_sources(argv))[-1]
    return json.loads(last.removeprefix(f"--{TERMS}="))


FIRST = {"mine": {"coef": 0.5, "scale": 3.0}}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([FIRST, {"mine": {"coef": 0.1}}], {"mine": {"coef": 0.1, "scale": 3.0}}),
        ([FIRST, f"--{TERMS}.mine.coef=1e-3"], {"mine": {"coef": 1e-3, "scale": 3.0}}),
        ([f"--{TERMS}.mine.coef=0.2", FIRST], FIRST),
        ([FIRST, {"other": {"coef": 1}}], {**FIRST, "other": {"coef": 1}}),
        ([FIRST, {"other": {}}], {**FIRST, "other": {}}),
        ([FIRST, {"mine": {}}], FIRST),
        ([FIRST, {}], FIRST),
        ([FIRST, {"mine": None, "other": {"coef": 1}}], {"other": {"coef": 1}}),
        ([FIRST, {"mine": None}, {"mine": {"coef": 1}}], {"mine": {"coef": 1}}),
        ([FIRST, None], {}),
        ([{"mine": {"inner": {"a": 1, "b": [2]}}}, {"mine": {"inner": {"a": 3}}}],
         {"mine": {"inner": {"a": 3, "b": [2]}}}),
    ],
)  # fmt: skip
def test_fields_of_later_layers_win_and_others_stay(tmp_path, layers, expected):
    assert laid(tmp_path, *layers) == expected


def test_arguments_without_such_a_section_are_as_they_were(tmp_path):
    argv = ["fit", "--config", "conf/quickstart.yaml", "--seed_everything", "3"]
    assert lay_named(argv, read_sources(argv)) == argv
    wrong = ["fit", f"--{TERMS}", "3"]
    assert lay_named(wrong, read_sources(wrong)) == wrong


def test_a_run_is_composed_with_it_and_a_field_can_be_ablated(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"model": {"objective": {"terms": FIRST}}}))
    argv = ["fit", "--config", "conf/quickstart.yaml", "--config", str(file)]
    config = compose([*argv, f"--{TERMS}.mine.coef", "0.25"])
    assert config.model.objective.terms == {"mine": {"coef": 0.25, "scale": 3.0}}
    ablation = {"name": "coef_2", "leaf": f"{TERMS}.mine.coef", "value": 2.0}
    config = compose([*argv, *(f"--ablation.{key}={value}" for key, value in ablation.items())])
    assert config.model.objective.terms == {"mine": {"coef": 2.0, "scale": 3.0}}
