"""One voice: the lines of this package on stderr, and libraries only when something is wrong."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from luffy_pl.commands.program import runnable
from luffy_pl.errors import printable


class StderrLines(logging.Handler):
    """Writes to whatever stderr is now; a stream kept from earlier may have been closed."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        sys.stderr.write(runnable(printable(self.format(record), keep="\n")) + "\n")


class KeptLines(logging.Handler):
    """Keeps warnings instead of writing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self.lines.append(printable(self.format(record)))


def keep_warnings() -> list[str]:
    """Have the package say nothing until the next `quiet`; returns the list that warnings go to."""
    handler = KeptLines()
    logging.getLogger("luffy_pl").handlers = [handler]
    return handler.lines


def quiet() -> None:
    """One voice: libraries speak up only when something is wrong."""
    # transformers, not imported yet, sets the level of its own logger when it is.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "transformers" in sys.modules:  # it has read its variables, as where Python calls a command
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "vllm", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = logging.getLogger("luffy_pl")
    own.setLevel(logging.INFO)
    own.handlers = [StderrLines()]
    # Says at every start of vLLM that an optional compiler is missing.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    # Says of each weight that is cut two ways that gathering it takes two steps.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|transformers|torch|vllm)\b")
