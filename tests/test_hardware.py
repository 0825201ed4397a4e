"""Every overlay of conf/hardware and conf/model is understood, and says what it is meant to."""

from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[1] / "conf"
OVERLAYS = sorted([*CONF.glob("hardware/*.yaml"), *CONF.glob("model/*.yaml")])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_an_overlay_composes(command_line, overlay):
    said = yaml.safe_load(overlay.read_text())
    shown = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--config", overlay, "--print_config"
    )
    assert shown.returncode == 0, shown.stderr
    assert lays_over(said, yaml.safe_load(shown.stdout))


def lays_over(said, found):
    """Whether every leaf of `said` is in `found`."""
    if not isinstance(said, dict):
        return said == found
    return all(lays_over(value, found[name]) for name, value in said.items())
