"""Old names of modules, classes and functions, which keep working for one version.

A configuration names a class by its module (`class_path`), and packages of users import from this
one. A finder knows what moved: it makes a stand-in for a module that is gone, and lets a module
that stayed find the names it lost. The new home is imported when a name is asked for, not before.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

_MOVED_MODULES = {
    "-> config": """guards parser_limits:limits config_checks:cross_checks model_checks
        config_errors:messages command_options""",
    "-> policy": "lora pretrained:remote_code",
    "-> process": "environment faults interrupt neighbours ranks",
    "-> run": "run:command composition dry_run completion",
    "-> run_dir": "run_dir:begin checkpoint_folder:checkpoints status",
    "data -> experience": """benchmarks checks collate experience:collect datamodule guidance
        imitation_buffer one_ahead phases replay routing sampling scoring settings share stream""",
    "estimate -> estimate": "command:estimate",
    "estimate -> policy": "architecture",
    "evaluation -> report": "compare cost curves outcomes page published report:command view",
    "evaluation -> run_dir": "runs:read",
    "evaluation.page -> report.page": """answers build charts:figure cost_figures:training_figures
        embed expert_figures:training_figures figures:training_figures token_values""",
    "objective -> policy": "logprobs:head product",
    "reward -> answer": """gate intervals leaves math_answer:compare normalize
        policy:tolerance rational structure symbolic units""",
    "reward -> reward.released": """released_compare:compare released_text:text
        released_verifier:verifier""",
    "rollout -> rollout": "weight_sync:probe",
    "teacher -> traces": "answer command endpoint generate local settings",
    "training -> objective": "terms",
    "training -> attention": "attention:packed packing",
    "training -> policy": "flops offload policy recompute sharding tensor_parallel",
    "training -> run_dir": "saved_state",
    "->": "teacher:traces",
}
"""Modules that moved from one room to another, as `name` or `name:new_name`."""

_MOVED_NAMES = {
    "data.collate -> training.micro_batches": "micro_batch_rows",
    "data.phases -> experience.policy_view": "PolicyView",
    "data.rows -> data.rows": "Row:DataRow",
    "estimate.command -> run.estimate_command": "DESCRIPTION DEVICES main",
    "estimate.plan -> estimate.plan": "Plan:RankPlan",
    "evaluation.outcomes -> report.outcomes": "Outcome:EvaluationOutcome",
    "evaluation.problems -> evaluation.problems": "Outcome:ProblemOutcome",
    "guards -> process.safe_start": """MIN_LIGHTNING QUIET_ENVIRONMENT UNSAFE_ENVIRONMENT
        check_lightning make_start_safe""",
    "reward.policy -> answer.tolerance": "Policy:Tolerance",
    "status -> run_dir.status": "Status:RunStatus",
    "training.settings -> objective.settings": """EntropyConfig KlConfig NormalizerConfig
        ObjectiveConfig OffPolicyConfig OnPolicyConfig SftConfig""",
    "training.settings -> policy.settings": "PolicyConfig",
}
"""Names that moved alone or changed, as `name` or `name:new_name`."""


def install() -> None:
    """Let old names be imported from now on."""
    sys.meta_path.insert(0, _Finder())


def new_name(old: str) -> str | None:
    """The dotted name that a class or function has now; None if it did not move."""
    module, _, name = old.rpartition(".")
    if old in NAMES:
        return NAMES[old]
    # Python asks a package for a name before it looks for a submodule, and asks every module for
    # special names. Neither may load the new home, which may import torch.
    if module not in MODULES or name.startswith("_") or find_spec(old) is not None:
        return None
    return f"{MODULES[module]}.{name}"


def _moved(table: dict[str, str]) -> dict[str, str]:
    """New dotted names by old ones."""
    found = {}
    for places, entries in table.items():
        old_place, new_place = (
            f"luffy_pl.{place.strip()}".rstrip(".") for place in places.split("->")
        )
        for entry in entries.split():
            old, _, new = entry.partition(":")
            found[f"{old_place}.{old}"] = f"{new_place}.{new or old}"
    return found


MODULES = _moved(_MOVED_MODULES)
NAMES = _moved(_MOVED_NAMES)
_CONCERNED = {*MODULES, *(name.rpartition(".")[0] for name in NAMES)}
_told: set[tuple[str, str]] = set()
"""Pairs of modules, old and new, that a line was logged for."""


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _CONCERNED:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None:
            return ModuleSpec(fullname, _StandIn(), is_package=True)
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Stayed(fullname, spec.loader.path)
        return spec


class _StandIn(Loader):
    """Loads an empty module whose names are looked up in their new home."""

    def exec_module(self, module: ModuleType) -> None:
        _look_elsewhere(module)


class _Stayed(SourceFileLoader):
    """Loads a module from its file; names that it lost are looked up in their new home."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _look_elsewhere(module)


def _look_elsewhere(module: ModuleType) -> None:
    def moved(name: str) -> Any:
        old = f"{module.__name__}.{name}"
        new = new_name(old)
        if new is None:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        home, _, name = new.rpartition(".")
        found = getattr(importlib.import_module(home), name)
        if (module.__name__, home) not in _told:
            _told.add((module.__name__, home))
            log.warning("%s is now %s; the next version drops the old name", old, new)
        return found

    module.__dict__["__getattr__"] = moved
