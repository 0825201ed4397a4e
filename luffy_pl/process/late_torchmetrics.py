"""torchmetrics, without the metrics that nobody asks for.

Lightning needs two of its classes, but the package's own `__init__` imports every metric it has,
and with those of texts most of transformers: a fifth of the start of a command. Here that
`__init__` waits until somebody asks for any other name.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

PACKAGE = "torchmetrics"
# What Lightning takes, by the module that defines it. Its modules import each other in this order.
NEEDED = {
    "torchmetrics.__about__": "__version__",
    "torchmetrics.utilities": None,
    "torchmetrics.metric": "Metric",
    "torchmetrics.collections": "MetricCollection",
}


class LatePackage(ModuleType):
    """A package whose `__init__` runs when an attribute is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_late() -> None:
    """Import what Lightning needs of the package, before Lightning imports all of it.

    A version that is arranged in another way is left to be imported as it is.
    """
    spec = find_spec(PACKAGE) if PACKAGE not in sys.modules else None
    if spec is None:
        return
    package = module_from_spec(spec)
    package.__class__ = LatePackage
    package.__dict__["_logger"] = logging.getLogger(PACKAGE)
    sys.modules[PACKAGE] = package
    try:
        for home, name in NEEDED.items():
            module = import_module(home)
            if name is not None:
                setattr(package, name, getattr(module, name))
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
