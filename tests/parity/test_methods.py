"""Methods that came after LUFFY, against values of other implementations, in float64."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .adapter import METHODS, run_method_advantage, run_method_case

FOLDER = Path(__file__).parent / "golden_methods"
CASES = {case["case"]: case["loss"] for case in json.loads((FOLDER / "cases.json").read_text())}
READY = (*METHODS, "gkd")
VALUE_IS_ANOTHER = ("cispo", "dppo")
"""Methods whose value carries a factor log p elsewhere, and is the weight of a token here."""


@pytest.fixture(scope="module")
def batch():
    """Inputs and results of the batch, by name."""
    tensors = load_file(FOLDER / "tensors.safetensors")
    return {name.partition(".")[2]: tensor for name, tensor in tensors.items()}


def test_every_method_has_its_cases():
    assert {case.split("/")[0] for case in CASES} == METHODS.keys() | {"gkd"}
    assert len(CASES) == 22


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.split("/")[0] in [*METHODS, "gkd"]]
)
def test_loss_and_gradient(batch, case):
    found = run_method_case(batch, case)
    torch.testing.assert_close(found["grad"], batch[f"{case}.grad"], rtol=0, atol=1e-9)
    if not case.startswith(VALUE_IS_ANOTHER):
        assert found["loss"] == pytest.approx(CASES[case], abs=1e-9, rel=0)


@pytest.mark.parametrize("name", ["rloo", "max_rl", "batch_std"])
def test_advantage(batch, name):
    found = run_method_advantage(batch, name)
    torch.testing.assert_close(found, batch[f"advantage.{name}"], rtol=0, atol=1e-9)
