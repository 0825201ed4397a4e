"""Settings that can have no effect: what each needs of others, in one table.

The composition asks it of everything that somebody set, the ablation of its one leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luffy_pl.config.kinds import Dropped
from luffy_pl.config.order import may_describe_data
from luffy_pl.config.sources import SettingSource, last_set
from luffy_pl.errors import ConfigError

SettingValues = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """What a setting needs to have an effect.

    holds: whether a composed configuration gives it. of: the settings that decide it. text: what is
    needed, in words that follow "needs".
    """

    of: tuple[str, ...]
    text: str
    holds: Callable[[SettingValues], bool]


def is_set(key: str) -> Need:
    """A setting that must not be null, false, 0 or empty."""
    return Need((key,), f"{key} to be set", lambda values: bool(values.get(key)))


def one_of(key: str, *allowed: Any) -> Need:
    """A setting that must have one of some values."""
    words = " or ".join(map(str, allowed))
    return Need((key,), f"{key}: {words}", lambda values: values.get(key) in allowed)


def any_of(text: str, *keys: str) -> Need:
    """Settings of which one must be set."""
    return Need(keys, text, lambda values: any(values.get(key) for key in keys))


def is_section(key: str) -> Need:
    """A section that must not be null."""
    return Need(
        (key,),
        f"{key} to be set",
        lambda values: any(
            name.startswith(f"{key}.") or (name == key and value is not None)
            for name, value in values.items()
        ),
    )


def scheduled(section: str, need: Need) -> dict[str, tuple[Need, ...]]:
    """What a schedule over phases needs, and what of it needs a fall."""
    fall = is_set(f"{section}.decay_phases")
    return {section: (need,), f"{section}.shape": (need, fall), f"{section}.floor": (need, fall)}


def falls(optimizer: str) -> Need:
    """A learning rate that falls."""
    return one_of(f"{optimizer}.schedule.kind", "linear", "cosine")


OBJECTIVE, ROLLOUT = "model.objective", "data.rollout"
PUT_BACK = f"{ROLLOUT}.guidance.put_back"
GIVEN_ROWS = Need(
    (f"{ROLLOUT}.expert_traces_per_group", f"{ROLLOUT}.replay", PUT_BACK),
    "rows that the policy did not sample (data.rollout.expert_traces_per_group, replay, or "
    "guidance.put_back: plain)",
    lambda values: (
        bool(values.get(f"{ROLLOUT}.expert_traces_per_group"))
        or is_section(f"{ROLLOUT}.replay").holds(values)
        or values.get(PUT_BACK) == "plain"
    ),
)
SAMPLED_ROWS = Need(
    (f"{ROLLOUT}.group_size", f"{ROLLOUT}.expert_traces_per_group", f"{ROLLOUT}.prefix.strategy"),
    "rows that the policy samples (data.rollout.group_size above expert_traces_per_group)",
    lambda values: (
        (values.get(f"{ROLLOUT}.group_size") or 0)
        > (values.get(f"{ROLLOUT}.expert_traces_per_group") or 0)
        or values.get(f"{ROLLOUT}.prefix.strategy") != "full"
    ),
)
IMITATION = any_of(
    "steps that imitate (data.rollout.sft_phases or imitation_buffer)",
    f"{ROLLOUT}.sft_phases",
    f"{ROLLOUT}.imitation_buffer",
)
GRADER = "data.reward.grader"
GRADED = Need(
    (GRADER,),
    "answers that are right or wrong (data.reward.grader is none)",
    lambda values: values.get(GRADER) != "none",
)
COUNTED = Need(
    (GRADER,),
    GRADED.text,
    lambda values: GRADED.holds(values) or values.get(f"{ROLLOUT}.routing.kind") != "solve_count",
)
DIVERGENCE, DISTILLATION = f"{OBJECTIVE}.divergence", f"{OBJECTIVE}.distillation"
REWARDED = Need(
    (DIVERGENCE,),
    f"the policy term ({DIVERGENCE}: null, or with_reward: true)",
    lambda values: (
        not is_section(DIVERGENCE).holds(values) or bool(values.get(f"{DIVERGENCE}.with_reward"))
    ),
)
POLICY_TERM = Need(
    (DIVERGENCE, DISTILLATION),
    REWARDED.text,
    # What a distillation adds is weighed as the policy term is.
    lambda values: (
        REWARDED.holds(values)
        or (is_section(DISTILLATION).holds(values) and values.get(f"{DISTILLATION}.mode") == "add")
    ),
)
POLICY_COEF = is_set(f"{OBJECTIVE}.off_policy.policy_coef")
SFT = is_set(f"{OBJECTIVE}.sft.coef")
KL = is_set(f"{OBJECTIVE}.kl.coef")
TARGET = is_set(f"{OBJECTIVE}.entropy.target_nats")
LEARNED_ROWS = Need(
    (*SAMPLED_ROWS.of, *GIVEN_ROWS.of, *POLICY_COEF.of),
    "rows in the policy term (rows that the policy samples, or off_policy.policy_coef above 0)",
    lambda values: (
        SAMPLED_ROWS.holds(values) or (GIVEN_ROWS.holds(values) and POLICY_COEF.holds(values))
    ),
)
PAID_ROWS = Need(
    (*LEARNED_ROWS.of, DISTILLATION),
    f"rows that learn from their reward ({DISTILLATION}: null, or with_reward: true)",
    lambda values: (
        not is_section(DISTILLATION).holds(values)
        or bool(values.get(f"{DISTILLATION}.with_reward"))
        or (GIVEN_ROWS.holds(values) and POLICY_COEF.holds(values))
    ),
)
PAID = (REWARDED, LEARNED_ROWS, PAID_ROWS)
"""Where rewards reach the loss."""
GIVEN_TERM = (GIVEN_ROWS, POLICY_COEF, REWARDED)
"""Where rows that the policy did not sample are in the policy term."""
COMPARED = Need(
    ("data.advantage.rollouts", *GIVEN_ROWS.of),
    "rewards that are compared (data.advantage.rollouts: group, or given rows)",
    lambda values: values.get("data.advantage.rollouts") != "sign" or GIVEN_ROWS.holds(values),
)
MODE = f"{OBJECTIVE}.normalizer.mode"
STRATEGY = f"{ROLLOUT}.prefix.strategy"
SERVERS = one_of("data.engine.kind", "vllm_server")
TRANSFER = "data.engine.server.transfer"
HINTED = Need(
    (f"{ROLLOUT}.guidance", f"{ROLLOUT}.teacher_prompt"),
    "a hint to write (data.rollout.guidance or teacher_prompt)",
    lambda values: any(
        is_section(f"{ROLLOUT}.{name}").holds(values) for name in ("guidance", "teacher_prompt")
    ),
)
SKIPS = one_of("model.optimizer.non_finite.policy", "skip")

NEEDS: dict[str, tuple[Need, ...]] = {
    MODE: PAID,
    f"{OBJECTIVE}.normalizer.constant_tokens": (*PAID, one_of(MODE, "constant")),
    f"{OBJECTIVE}.normalizer.rows": (*PAID, one_of(MODE, "sequence", "constant")),
    f"{OBJECTIVE}.max_probability": (LEARNED_ROWS, POLICY_TERM),
    f"{OBJECTIVE}.old_logprob": (SAMPLED_ROWS,),
    f"{OBJECTIVE}.on_policy": (SAMPLED_ROWS, POLICY_TERM),
    f"{OBJECTIVE}.off_policy.shaping": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.min_weight": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.max_weight": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.behaviour": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.rare_exponent": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.top_entropy_share": GIVEN_TERM,
    f"{OBJECTIVE}.off_policy.policy_coef": (GIVEN_ROWS, REWARDED),
    f"{OBJECTIVE}.entropy.controller": (TARGET,),
    f"{OBJECTIVE}.entropy.max_coef": (TARGET,),
    f"{OBJECTIVE}.entropy.lr": (TARGET, one_of(f"{OBJECTIVE}.entropy.controller", "integral")),
    f"{OBJECTIVE}.kl.model": (KL,),
    f"{OBJECTIVE}.kl.place": (KL,),
    f"{OBJECTIVE}.kl.estimator": (KL,),
    f"{OBJECTIVE}.kl.target_nats": (KL,),
    f"{OBJECTIVE}.kl.horizon": (KL, is_set(f"{OBJECTIVE}.kl.target_nats")),
    **scheduled(f"{OBJECTIVE}.sft.schedule", SFT),
    f"{OBJECTIVE}.sft.complement": (SFT, REWARDED),
    f"{OBJECTIVE}.sft.token_weight": (SFT,),
    f"{OBJECTIVE}.sft.row_weight": (SFT,),
    **scheduled(f"{OBJECTIVE}.entropy.schedule", is_set(f"{OBJECTIVE}.entropy.coef")),
    **scheduled(f"{OBJECTIVE}.kl.schedule", KL),
    DISTILLATION: (SAMPLED_ROWS,),
    f"{DISTILLATION}.clip": (is_set(f"{DISTILLATION}.coef"),),
    f"{ROLLOUT}.teacher_prompt": (is_section(DISTILLATION),),
    **scheduled(f"{DISTILLATION}.schedule", is_set(f"{DISTILLATION}.coef")),
    **scheduled(f"{DIVERGENCE}.schedule", is_section(DIVERGENCE)),
    f"{DIVERGENCE}.tail": (is_set(f"{DIVERGENCE}.top_k"),),
    "model.optimizer.schedule.decay_steps": (falls("model.optimizer"),),
    "model.optimizer.schedule.floor": (falls("model.optimizer"),),
    "model.optimizer.sft": (IMITATION,),
    "model.optimizer.sft.schedule.decay_steps": (falls("model.optimizer.sft"),),
    "model.optimizer.sft.schedule.floor": (falls("model.optimizer.sft"),),
    "model.optimizer.non_finite.max_in_a_row": (SKIPS,),
    "model.optimizer.non_finite.max_total": (SKIPS,),
    "data.advantage.scale": (*PAID, COMPARED),
    "data.advantage.baseline": (GIVEN_ROWS, *PAID),
    "data.advantage.rollouts": (SAMPLED_ROWS, *PAID),
    f"{ROLLOUT}.refill_tries": (SAMPLED_ROWS,),
    f"{ROLLOUT}.replay": (GRADED,),
    f"{ROLLOUT}.imitation_buffer": (GRADED,),
    f"{ROLLOUT}.routing": (COUNTED,),
    f"{ROLLOUT}.prefix.min_ratio": (one_of(STRATEGY, "random", "fixed", "cosine", "binomial"),),
    f"{ROLLOUT}.prefix.max_ratio": (
        one_of(
            STRATEGY,
            "random",
            "fixed",
            "linear",
            "linear_max",
            "reverse_linear",
            "cosine",
            "binomial",
        ),
    ),
    f"{ROLLOUT}.prefix.phases": (
        one_of(STRATEGY, "linear", "linear_max", "reverse_linear", "cosine", "binomial"),
    ),
    # What `shared` and `fixed` say contradict each other, and the section itself says so.
    f"{ROLLOUT}.prefix.shared": (
        one_of(STRATEGY, "random", "fixed", "linear_max", "reverse_linear", "cosine", "binomial"),
    ),
    f"{ROLLOUT}.prefix.pieces": (one_of(STRATEGY, "binomial"),),
    "expert.every_n_phases": (GIVEN_ROWS,),
    "data.train.max_bad_share": (one_of("data.train.on_bad_row", "skip"),),
    "data.train.hint_template": (HINTED,),
    "data.engine.server": (SERVERS,),
    "data.engine.server.folder": (SERVERS, one_of(TRANSFER, "file")),
    "data.engine.server.nccl_address": (SERVERS, one_of(TRANSFER, "nccl")),
    "data.engine.server.nccl_port": (SERVERS, one_of(TRANSFER, "nccl")),
    "data.engine.sleep_level": (one_of("data.engine.kind", "auto", "vllm"),),
    "data.engine.gpu_memory_utilization": (one_of("data.engine.kind", "auto", "vllm"),),
    "data.engine.enforce_eager": (one_of("data.engine.kind", "auto", "vllm"),),
    "data.engine.cpu_kv_cache_gib": (one_of("data.engine.kind", "auto", "vllm"),),
}
"""What a setting, or a section with all that is in it, needs to have an effect in training."""
OF_THE_DATA = ("data.train.hint_template",)
"""Settings by which a file describes its data for any recipe, and then they need nothing."""
EARLIER_DEFAULTS = {"data.train.max_bad_share": 0.005}
"""What an earlier version wrote into config.yaml of a setting that nobody had set."""


def dead_settings(
    values: SettingValues,
    sources: Sequence[SettingSource],
    *,
    defaults: Callable[[], SettingValues],
) -> tuple[Dropped, ...]:
    """Settings without effect that are to be dropped, because a later source made them so.

    A value that is the default, or was one, is no setting: a written-out configuration holds every
    one.

    Args:
        defaults: gives what every setting is when nobody sets it; asked only if something is dead.

    Raises:
        ConfigError: a source sets such a setting beside, or after, what takes its effect.
    """
    dropped: list[Dropped] = []
    for name, needs in NEEDS.items():
        number = last_set(sources, name)
        need = next((need for need in needs if not need.holds(values)), None)
        if number < 0 or need is None:
            continue
        if name in OF_THE_DATA and may_describe_data(sources[number]):
            continue
        usual = defaults()
        changed = {
            key: value
            for key, value in below(values, name).items()
            if last_set(sources, key) >= 0
            and (key not in usual or value not in default_values(key, usual))
        }
        if not changed:
            continue
        decided = max(last_set(sources, key) for key in need.of)
        key, value = next(iter(changed.items()))
        if number >= decided:
            raise ConfigError(
                key,
                f"has no effect: it needs {need.text}",
                value=value,
                fix="leave it out, or set what it needs",
            )
        reason = f"needs {need.text}, and {sources[decided].name} decides otherwise"
        dropped.append(Dropped(name, value, sources[number].name, reason))
    return tuple(dropped)


def default_values(key: str, usual: SettingValues) -> tuple[Any, ...]:
    """What a setting is in a configuration that was written out where nobody set it."""
    return tuple(of[key] for of in (usual, EARLIER_DEFAULTS) if key in of)


def below(values: SettingValues, name: str) -> dict[str, Any]:
    """The leaves of a section, or the one leaf that has the name."""
    return {
        key: value for key, value in values.items() if key == name or key.startswith(f"{name}.")
    }


def as_default(name: str, defaults: SettingValues) -> Any:
    """What a setting or a section is when nobody sets it."""
    if name in defaults:
        return defaults[name]
    found: dict[str, Any] = {}
    for key, value in below(defaults, name).items():
        inner = found
        *path, last = key.removeprefix(f"{name}.").split(".")
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found
