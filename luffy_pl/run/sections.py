"""The sections of a run's configuration beside `trainer`, and what one takes from another."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_type_hints

from lightning.pytorch.cli import LightningArgumentParser

from luffy_pl.callbacks.ablation import Ablation
from luffy_pl.callbacks.answers import Answers
from luffy_pl.callbacks.checkpoint import PhaseCheckpoint
from luffy_pl.callbacks.entropy import EntropyMonitor
from luffy_pl.callbacks.evaluation import Evaluation
from luffy_pl.callbacks.expert import ExpertMonitor
from luffy_pl.callbacks.heartbeat import Heartbeat
from luffy_pl.callbacks.progress import PhaseProgress
from luffy_pl.callbacks.samples import Samples
from luffy_pl.callbacks.summary import Summary
from luffy_pl.callbacks.weight_sync import WeightSync
from luffy_pl.config.sources import leaves
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.training.module import LuffyModule

SECTIONS = {
    "progress": PhaseProgress,
    "heartbeat": Heartbeat,
    "weight_sync": WeightSync,
    "entropy": EntropyMonitor,
    "expert": ExpertMonitor,
    "ablation": Ablation,
    "samples": Samples,
    "answers": Answers,
    "evaluation": Evaluation,
    "checkpoint": PhaseCheckpoint,
    "summary": Summary,
}

# What one half needs to know of the other.
LINKS: dict[tuple[str, str], Callable[[Any], Any] | None] = {
    ("model.policy.path", "data.model_path"): None,
    ("model.policy.remote_code", "data.engine.remote_code"): None,
    ("seed_everything", "data.seed"): int,
    ("seed_everything", "model.seed"): int,
    ("resume", "answers.resume"): None,
    ("model.optimizer.steps_per_phase", "data.steps_per_phase"): None,
    ("data.rollout.max_response_tokens", "model.max_response_tokens"): None,
    ("data.rollout.num_phases", "model.num_phases"): None,
    ("data.rollout.sft_phases", "model.sft_phases"): None,
    ("model.objective", "data.sampler_logprobs"): lambda objective: (
        objective.old_logprob == "sampler" or objective.on_policy.mismatch_cap is not None
    ),
    ("model.objective.off_policy.behaviour", "data.recorded_behaviour"): (
        lambda behaviour: behaviour == "recorded"
    ),
    ("model.frozen", "data.teacher_paths"): lambda frozen: {
        name: one.path for name, one in frozen.items() if one.path
    },
    ("model.frozen", "data.teacher_servers"): lambda frozen: {
        name: one.server for name, one in frozen.items() if one.is_served
    },
}
LINKED = {target for _, target in LINKS}


def settings_parser() -> LightningArgumentParser:
    """The sections of a run that are ours, for their names and defaults."""
    parser = LightningArgumentParser(parser_mode="omegaconf")
    parser.add_lightning_class_args(LuffyModule, "model")
    parser.add_lightning_class_args(LuffyDataModule, "data")
    for name, callback in SECTIONS.items():
        parser.add_lightning_class_args(callback, name)
    return parser


@cache
def defaults_inside() -> dict[str, Any]:
    """What is inside each section that is off by itself, where only the section is set."""
    return {
        key: value
        for name, cls in (("model", LuffyModule), ("data", LuffyDataModule))
        for key, value in inside(name, get_type_hints(cls.__init__))
    }


def inside(path: str, kinds: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The leaves of optional sections below a dotted path, each with its default.

    Args:
        kinds: type of each field there.
    """
    for field, kind in kinds.items():
        where = f"{path}.{field}"
        for section in (kind, *get_args(kind)):
            if not (isinstance(section, type) and dataclasses.is_dataclass(section)):
                continue
            if section is not kind and not inspect.isabstract(section):
                yield from leaves(defaults_of(section), where)
            yield from inside(where, get_type_hints(section))


def defaults_of(section: type[Any]) -> dict[str, Any]:
    """The fields of a section that have a default, as plain values."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            is_section = dataclasses.is_dataclass(made) and not isinstance(made, type)
            found[field.name] = dataclasses.asdict(made) if is_section else made
    return found
