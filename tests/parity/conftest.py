import json
import os
from pathlib import Path

import pytest
from torch import Tensor

Golden = tuple[dict[str, Tensor], list[dict]]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Tensors and cases of the released objective: LUFFY_GOLDEN, or beside the checkout."""
    beside = Path(__file__).parents[2].parent / "shared" / "golden"
    folder = Path(os.environ.get("LUFFY_GOLDEN", beside))
    if not (folder / "cases.json").is_file():
        pytest.skip(f"no golden values of the released objective in {folder}: set LUFFY_GOLDEN")
    safetensors = pytest.importorskip("safetensors.torch")
    cases = json.loads((folder / "cases.json").read_text())
    return safetensors.load_file(folder / "tensors.safetensors"), cases
