"""Scripts of the project that are in no package, as modules."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(*parts):
    """The module that a script below the root of the project is, such as `release/locks.py`."""
    path = ROOT.joinpath(*parts)
    name = f"{path.stem}_script"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses and named tuples look for types
    spec.loader.exec_module(module)
    return module
