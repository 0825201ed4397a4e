"""luffy-pl: learning to reason under off-policy guidance.

`fit` trains and `load_run` opens a run, see `luffy_pl.api`; they are imported when they are used.
"""

from typing import TYPE_CHECKING, Any

from luffy_pl.process.moved import install

if TYPE_CHECKING:
    from luffy_pl.api import Run, fit, load_run

__all__ = ["Run", "fit", "load_run"]

install()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from luffy_pl import api

    return getattr(api, name)
