"""torchmetrics, without the metrics that nobody asks for.

Lightning needs two of its classes, but the package's own `__init__` imports every metric it has,
and with those of texts most of transformers: a fifth of the start of a command. Here that
`__init__` waits until somebody asks for any other name. The module that draws metrics, and imports
matplotlib for it, waits in the same way.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.machinery import PathFinder
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


PLOT = "torchmetrics.utilities.plot"
# What the two classes take of it: the types are those that it has where matplotlib is missing.
TYPES = {"_AX_TYPE": object, "_PLOT_OUT_TYPE": tuple[object, object]}


class LateModule(ModuleType):
    """A module whose body runs when an attribute is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        run_body(self)
        return getattr(self, name)


def run_body(module: ModuleType) -> None:
    """Run the body of a late module, once."""
    if isinstance(module, LateModule):
        module.__class__ = ModuleType  # type: ignore[assignment]
        spec = module.__spec__
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(module)


def late_plots(package: ModuleType) -> ModuleType | None:
    """The module that draws, with the names that Lightning's two classes need; None without it."""
    # To ask for it by its whole name would import the package around it, which imports matplotlib.
    spec = PathFinder.find_spec(PLOT, [f"{folder}/utilities" for folder in package.__path__])
    if spec is None:
        return None
    module = module_from_spec(spec)
    module.__class__ = LateModule

    def plot_single_or_multi_val(*args: Any, **kwargs: Any) -> Any:
        run_body(module)
        return module.plot_single_or_multi_val(*args, **kwargs)

    vars(module).update(TYPES, plot_single_or_multi_val=plot_single_or_multi_val)
    return module


def import_late() -> None:
    """Import what Lightning needs of the package, before Lightning imports all of it.

    A version that is arranged in another way is left to be imported as it is.
    """
    spec = find_spec(PACKAGE) if PACKAGE not in sys.modules else None
    if spec is None:
        return
    package = module_from_spec(spec)
    package.__class__ = LateModule
    package.__dict__["_logger"] = logging.getLogger(PACKAGE)
    sys.modules[PACKAGE] = package
    if (plots := late_plots(package)) is not None:
        sys.modules[PLOT] = plots
    try:
        for home, name in NEEDED.items():
            module = import_module(home)
            if name is not None:
                setattr(package, name, getattr(module, name))
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
