"""Every number of a configuration has bounds, and none lets NaN or infinity pass."""

import dataclasses
import inspect
import math
import types
import typing

import pytest
from composing import composed

from luffy_pl.bounds import Bound, bounded, check_bounds
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.reward.reward import RewardConfig
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.run.sections import LINKED, SECTIONS
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig

# Settings that are bounded where they are used, or hold a value of another setting.
ELSEWHERE = {"data.reward.terms", "data.benchmarks.reward.terms", "ablation.value"}
OF_CALLBACKS = {
    "data.answers_per_chunk": 0,
    "progress.line_every_s": -1,
    "heartbeat.every_s": 0,
    "heartbeat.hang_after_s": -1,
    "weight_sync.tolerance_nats": 0,
    "expert.every_n_phases": 0,
    "samples.groups_per_phase": -1,
    "samples.show_every_n_phases": 0,
    "evaluation.every_n_phases": 0,
    "checkpoint.every_n_phases": 0,
    "checkpoint.keep": 0,
    "checkpoint.max_failures": -1,
}


def numbers(path, cls):
    """Dotted name and field of every number; None for the field of a plain class."""
    is_record = dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls if is_record else cls.__init__)
    fields = {field.name: field for field in dataclasses.fields(cls)} if is_record else {}
    names = fields if is_record else list(inspect.signature(cls.__init__).parameters)[1:]
    for name in names:
        key = f"{path}.{name}"
        if key in LINKED or key in ELSEWHERE:
            continue
        if inner := record_in(hints[name]):
            yield from numbers(key, inner)
        elif is_number(hints[name]):
            yield key, fields.get(name)


def record_in(kind):
    if dataclasses.is_dataclass(kind):
        return kind
    return next(filter(None, map(record_in, typing.get_args(kind))), None)


def is_number(kind):
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, dict):
        return any(map(is_number, typing.get_args(kind)))
    return kind in (int, float)


def test_every_number_has_bounds():
    sections = {"model": LuffyModule, "data": LuffyDataModule, **SECTIONS}
    found = [one for name, cls in sections.items() for one in numbers(name, cls)]
    assert len(found) > 80
    without = {key for key, field in found if field is None or "bound" not in field.metadata}
    assert without == OF_CALLBACKS.keys()


@pytest.mark.parametrize(("key", "value"), OF_CALLBACKS.items())
def test_a_number_of_a_callback_is_bounded(key, value):
    for wrong in (value, math.nan, math.inf):
        with pytest.raises(ConfigError, match=key.rpartition(".")[2]):
            composed("fit", "--config", "conf/quickstart.yaml", f"--{key}={wrong}")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.optimizer.lr", ".nan", "must be above 0"),
        ("model.optimizer.betas", "[0.9, 1.0]", "below 1"),
        ("model.optimizer.eps", ".inf", "must be at least 0"),
        ("model.optimizer.weight_decay", "-1", "must be at least 0"),
        ("model.objective.max_probability", "-3", "must be above 0"),
        ("model.objective.on_policy.gate.high", ".nan", "must be at least 0"),
        ("model.objective.off_policy.max_weight", "0", "must be above 0"),
        ("data.rollout.group_size", "0", "must be at least 1"),
        ("data.rollout.group_size", "1", "compares a response with no other"),
        ("data.engine.deadline_s", ".inf", "must be above 0"),
        ("seed_everything", "-1", "must be at least 0"),
        ("cpu_threads", "-4", "must be at least 1"),
        ("cpu_threads", "1000000", "at most 1024"),
    ],
)
def test_a_number_out_of_bounds_is_one_line(command_line, tmp_path, key, value, words):
    own = ["--run_dir", tmp_path / "run", f"--{key}={value}"]
    done = command_line("fit", "--config", "conf/quickstart.yaml", "--dry_run=true", *own)
    assert done.returncode == 2
    [said] = done.stderr.splitlines()
    assert said.startswith(f"luffy-pl: error [2] {key}: ")
    assert words in said


def records(cls):
    """A record of settings, and those inside it."""
    for kind in typing.get_type_hints(cls).values():
        if (inner := record_in(kind)) is not None:
            yield from records(inner)
    yield cls


def default(cls):
    """An instance; what must be given is a text."""
    required = {
        field.name: "x"
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    return cls(**required)


SECTIONS_OF_NUMBERS = (
    ObjectiveConfig, OptimizerConfig, PolicyConfig, RolloutConfig, EngineConfig, RewardConfig,
    PromptSource,
)  # fmt: skip


def test_no_record_holds_a_number_outside_its_bounds():
    tried = 0
    for cls in {one for section in SECTIONS_OF_NUMBERS for one in records(section)}:
        if "__post_init__" not in vars(cls):
            continue  # the section around it looks into it
        made = default(cls)
        for field in dataclasses.fields(cls):
            bound = field.metadata.get("bound")
            if bound is None:
                continue
            assert bound.above is not None or bound.at_least is not None, field.name
            for wrong in (math.nan, math.inf, -math.inf, 1e16, -1e9):
                value = (wrong, wrong) if isinstance(getattr(made, field.name), tuple) else wrong
                with pytest.raises(ConfigError, match=rf"{field.name}:? must be "):
                    dataclasses.replace(made, **{field.name: value})
                tried += 1
    assert tried > 200


def test_a_lower_bound_above_the_upper_is_refused(command_line):
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--model.objective.off_policy.min_weight=2.0",
        "--model.objective.off_policy.max_weight=1.0", "--dry_run=true",
    )  # fmt: skip
    assert done.returncode == 2
    assert "min_weight: must be at most off_policy.max_weight=1.0, got 2.0" in done.stderr


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_no_bound_lets_what_is_not_finite_pass(value):
    assert not Bound().holds(value)


@pytest.mark.parametrize(
    ("bound", "inside", "outside", "words"),
    [
        (Bound(above=0), [1e-9, 5], [0, -1], "above 0"),
        (Bound(at_least=1, at_most=3), [1, 3], [0, 4], "at least 1 and at most 3"),
        (Bound(at_least=0, below=1), [0, 0.5], [1], "at least 0 and below 1"),
    ],
)
def test_what_a_bound_holds_and_says(bound, inside, outside, words):
    assert all(map(bound.holds, inside))
    assert not any(map(bound.holds, outside))
    assert str(bound) == words


def test_sections_inside_are_checked_under_their_own_name():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        number: tuple[float, ...] | None = bounded(None, above=0)

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner
        switch: bool = bounded(True, above=5)

    check_bounds(Outer(Inner()), "outer")
    with pytest.raises(ConfigError, match=r"^outer\.inner\.number: must be above 0, got \(1, 0\)"):
        check_bounds(Outer(Inner((1, 0))), "outer")
