"""An ablation is one leaf, or an error."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from composing import composed, fit, leaves

from luffy_pl.callbacks.ablation import Ablation, check_leaf, check_one_leaf
from luffy_pl.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
QUICKSTART = ["fit", "--config", "conf/quickstart.yaml"]
# What a file of the recipe holds and the ablation leaves without effect.
GAMMA, CEILING = (f"model.objective.off_policy.shaping.{name}" for name in ("gamma", "ceiling"))
DERIVED = {
    "no_shaping": {GAMMA},
    "clip_off_policy": {GAMMA, CEILING},
    "clip_on_policy": {f"model.objective.on_policy.gate.{name}" for name in ("low", "high")},
    "on_policy_shaping": {"model.objective.on_policy.shaping.gamma"},
    "token_mean": {
        "model.objective.normalizer.constant_tokens",
        "model.objective.normalizer.rows",
    },
}
SHAPING = "model.objective.off_policy.shaping.kind"


@pytest.mark.runs
@pytest.mark.parametrize("file", sorted(CONF.glob("ablation/*.yaml")), ids=lambda file: file.stem)
def test_an_overlay_changes_one_leaf_of_the_papers_recipe(file):
    ablation = yaml.safe_load(file.read_text())["ablation"]
    without = leaves(fit("conf/luffy.yaml"))
    config = leaves(fit("conf/luffy.yaml", f"conf/ablation/{file.name}"))
    value = ablation["value"]
    # YAML has lists, the setting a pair.
    assert config[ablation["leaf"]] == (tuple(value) if isinstance(value, list) else value)
    keys = (without | config).keys()
    different = {key for key in keys if without.get(key) != config.get(key)}
    derived = DERIVED.get(file.stem, set())
    tags = {"ablation.name", "ablation.leaf", "ablation.value"}
    assert different == {ablation["leaf"], *derived, *tags}


@pytest.mark.runs
def test_links_follow_the_leaf():
    config = composed(
        *QUICKSTART, "--ablation.name", "sampler", "--ablation.value", "sampler",
        "--ablation.leaf", "model.objective.old_logprob",
    )  # fmt: skip
    assert config["model.objective.old_logprob"] == "sampler"
    assert config["data.sampler_logprobs"] is True


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        (SHAPING, "p_div_p", "changes 0 settings"),
        (SHAPING, "pdivp", "did you mean p_div_p?"),
        ("model.objective.off_policy.shaping.kid", "identity", "unknown option"),
        ("data.advantage.scale", "std", "must be one of none, group_std"),
        ("model.policy.path", "x", "is not a field of"),
    ],
)
def test_anything_else_is_one_line(command_line, leaf, value, words):
    done = command_line(
        *QUICKSTART, "--ablation.name", "x", "--ablation.leaf", leaf, "--ablation.value", value
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_a_name_needs_a_leaf():
    with pytest.raises(ConfigError, match="belong together"):
        check_leaf("x", None)


def test_two_changes_are_refused_and_derived_ones_are_not():
    before = {"a": 1, "b": 2, "c": 3}
    with pytest.raises(ConfigError, match="changes 2 settings"):
        check_one_leaf(before, {"a": 9, "b": 9, "c": 3}, leaf="a", derived=set())
    check_one_leaf(before, {"a": 9, "b": 9, "c": 3}, leaf="a", derived={"b"})


def test_tags_the_run():
    logged = []
    logger = SimpleNamespace(log_hyperparams=logged.append)
    trainer = SimpleNamespace(loggers=[logger])
    Ablation("no_shaping", SHAPING, "identity").setup(trainer, None, "fit")
    assert logged == [{"ablation": "no_shaping", SHAPING: "identity"}]


def test_a_resumed_run_keeps_its_ablation_and_any_checkpoint_is_evaluated():
    state = Ablation("gamma", "model.objective.off_policy.shaping.gamma", 0.3).state_dict()
    trainer = SimpleNamespace(loggers=[])
    resumed, evaluated = Ablation(), Ablation()
    resumed.setup(trainer, None, "fit")
    with pytest.raises(ConfigError, match="trained with gamma"):
        resumed.load_state_dict(state)
    evaluated.setup(trainer, None, "validate")
    evaluated.load_state_dict(state)
