"""Files that come with the package: `bundled:NAME` in a configuration."""

from __future__ import annotations

from pathlib import Path

from luffy_pl.errors import ConfigError

PREFIX = "bundled:"
ROOT = Path(__file__).parent / "miniature" / "world"


def resolve(path: str) -> str:
    """The file behind `bundled:NAME`; any other path as it is."""
    if not path.startswith(PREFIX):
        return path
    target = ROOT / path.removeprefix(PREFIX)
    if not target.exists():
        names = ", ".join(sorted(PREFIX + entry.name for entry in ROOT.iterdir()))
        raise ConfigError(path, "no such bundled file", fix=f"one of {names}")
    return str(target)
