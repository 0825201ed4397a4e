"""Whether the hub answers, asked once and briefly.

Its libraries ask for each file again and again, which takes a machine without a network minutes.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from functools import cache
from pathlib import Path

from luffy_pl.errors import first_line

log = logging.getLogger(__name__)

ANSWER_S = 5.0
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def hub_problem(path: str) -> str | None:
    """Why a model or data set cannot be loaded from the hub; None: it lies here, or can be.

    Where the hub does not answer, this process and those that it starts use what the cache of the
    hub holds, and ask no more.
    """
    if Path(path).exists() or not HUB_NAME.fullmatch(path):
        return None
    return _problem()


@cache
def _problem() -> str | None:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    found = ["no answer"]

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
        except Exception as error:  # noqa: BLE001  (of whatever the session is made of)
            found[0] = first_line(error)
        else:
            found.clear()

    # The time limit of a request does not hold for the look-up of the host's name.
    asking = threading.Thread(target=ask, name="hub", daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    if not found:
        return None
    problem = f"{constants.ENDPOINT} does not answer: {found[0]}"
    log.warning("%s; only what the cache of the hub holds is used", problem)
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    return problem
