"""What is made safe before a library is imported."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, version

from luffy_pl.errors import ConfigError

MIN_LIGHTNING = (2, 6, 6)

QUIET_ENVIRONMENT = {
    # Nobody is told that a run was made.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # The bars of transformers would stand between our lines.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Read by torch's C++ part when it is first imported.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
UNSAFE_ENVIRONMENT = "VLLM_ALLOW_INSECURE_SERIALIZATION"


def make_start_safe() -> None:
    """Telemetry off; no library that is known to run foreign code."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ.get(UNSAFE_ENVIRONMENT, "0") != "0":
        raise ConfigError(
            UNSAFE_ENVIRONMENT,
            "lets vLLM unpickle what it is sent, and nothing here needs it",
            fix=f"unset {UNSAFE_ENVIRONMENT}",
        )
    check_lightning()


def check_lightning() -> None:
    """Refuse versions with malicious code (2.6.2, 2.6.3) or CVE-2026-58659, not importing them."""
    try:
        found = version("lightning")
    except PackageNotFoundError:
        found = "none"
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:3])
    if numbers < MIN_LIGHTNING:
        raise ConfigError(
            "lightning",
            "this version can execute what a checkpoint, or its own wheel, brings along",
            value=found,
            fix="pip install 'lightning>=2.6.6,<2.7'; after 2.6.2 or 2.6.3 also renew your tokens",
        )
