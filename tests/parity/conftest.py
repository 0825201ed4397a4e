import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

Golden = tuple[dict[str, Tensor], list[dict]]
FOLDER = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Tensors and cases of the released objective; golden/README.md says where they come from."""
    return load_file(FOLDER / "tensors.safetensors"), json.loads(
        (FOLDER / "cases.json").read_text()
    )
