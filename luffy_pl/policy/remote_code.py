"""Whether code that lies beside a model's weights is run: by default none, ever."""

from __future__ import annotations

import re
from typing import Any

from luffy_pl.errors import ConfigError

REVISION = re.compile(r"[0-9a-f]{40}")


def code_arguments(remote_code: str | None) -> dict[str, Any]:
    """What transformers' `from_pretrained` and vLLM's `LLM` are told about it.

    Not said, it would be a question on the terminal. A revision that is a branch would be other
    code tomorrow, hence the commit.
    """
    if remote_code is None:
        return {"trust_remote_code": False}
    return {"trust_remote_code": True, "revision": remote_code, "code_revision": remote_code}


def check_remote_code(where: str, remote_code: str | None) -> None:
    """Refuse what is not a commit."""
    if remote_code is not None and not REVISION.fullmatch(remote_code):
        raise ConfigError(
            where,
            "must be the commit whose code you have read, 40 hexadecimal digits",
            value=remote_code,
            fix="take it from the model's history on the hub, or null",
        )
