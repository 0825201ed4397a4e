"""A setting without effect is refused where it is set, or dropped where a later file made it so."""

import pytest

from luffy_pl.config.effects import NEEDS
from luffy_pl.config.kinds import flat
from luffy_pl.errors import ConfigError
from luffy_pl.run.composition import compose
from luffy_pl.run.layers import MAX_ROUNDS

OBJECTIVE, ROLLOUT = "model.objective", "data.rollout"
GAMMA = f"{OBJECTIVE}.off_policy.shaping.gamma"


def quickstart(*overlays, **settings):
    files = ["conf/quickstart.yaml", *(f"conf/{name}.yaml" for name in overlays)]
    pairs = [f"--{key}={value}" for key, value in settings.items()]
    return ["fit", *(arg for file in files for arg in ("--config", file)), *pairs]


def seldom(*row):
    """A row whose need another row has, too."""
    return pytest.param(*row, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("overlays", "settings", "named", "needed"),
    [
        (["recipe/srft", "ablation/gamma_0.3"], {}, GAMMA, "kind identity"),
        seldom(["recipe/srft"], {GAMMA: 0.3}, GAMMA, "kind identity"),
        ([], {f"{OBJECTIVE}.off_policy.shaping": '{"kind": "identity", "gamma": 0.3}'},
         GAMMA, "kind identity"),
        (["recipe/dapo"], {f"{OBJECTIVE}.normalizer.constant_tokens": 9},
         f"{OBJECTIVE}.normalizer.constant_tokens", "normalizer.mode: constant"),
        seldom(["recipe/dapo"], {f"{OBJECTIVE}.normalizer.rows": 9},
         f"{OBJECTIVE}.normalizer.rows", "normalizer.mode: sequence or constant"),
        ([], {f"{ROLLOUT}.prefix.phases": 9}, f"{ROLLOUT}.prefix.phases", "prefix.strategy"),
        seldom([], {f"{ROLLOUT}.prefix.max_ratio": 0.5},
         f"{ROLLOUT}.prefix.max_ratio", "prefix.strategy"),
        ([], {f"{OBJECTIVE}.entropy.controller": "ratio"},
         f"{OBJECTIVE}.entropy.controller", "entropy.target_nats"),
        seldom([], {f"{OBJECTIVE}.entropy.max_coef": 0.1},
         f"{OBJECTIVE}.entropy.max_coef", "entropy.target_nats"),
        (["recipe/kl_in_loss"], {f"{OBJECTIVE}.kl.horizon": 9},
         f"{OBJECTIVE}.kl.horizon", "kl.target_nats"),
        ([], {f"{OBJECTIVE}.kl.estimator": "k2"}, f"{OBJECTIVE}.kl.estimator", "kl.coef"),
        ([], {f"{OBJECTIVE}.sft.token_weight": "probability"},
         f"{OBJECTIVE}.sft.token_weight", "sft.coef"),
        ([], {f"{OBJECTIVE}.sft.schedule": '{"decay_phases": 9}'},
         f"{OBJECTIVE}.sft.schedule.decay_phases", "sft.coef"),
        seldom([], {f"{OBJECTIVE}.kl.schedule": '{"decay_phases": 9}'},
         f"{OBJECTIVE}.kl.schedule.decay_phases", "kl.coef"),
        ([], {f"{OBJECTIVE}.entropy.schedule": '{"warmup_phases": 9, "floor": 0.5}'},
         f"{OBJECTIVE}.entropy.schedule.floor", "entropy.schedule.decay_phases"),
        ([], {"model.optimizer.schedule.floor": 0.1},
         "model.optimizer.schedule.floor", "schedule.kind: linear or cosine"),
        (["recipe/sft_then_rl"], {"model.optimizer.sft.schedule.kind": "constant",
                                  "model.optimizer.sft.schedule.decay_steps": 9},
         "model.optimizer.sft.schedule.decay_steps", "schedule.kind: linear or cosine"),
        (["recipe/sft"], {f"{OBJECTIVE}.on_policy.ratio": "sequence"},
         f"{OBJECTIVE}.on_policy.ratio", "rows that the policy samples"),
        (["recipe/on_policy"], {f"{OBJECTIVE}.off_policy.rare_exponent": 0.5},
         f"{OBJECTIVE}.off_policy.rare_exponent", "rows that the policy did not"),
        seldom(["recipe/on_policy", "ablation/gamma_0.3"], {},
               GAMMA, "rows that the policy did not"),
        ([], {"data.reward": '{"grader": "none", "terms": {"overlong": 1.0}, '
                             '"overlong_buffer_share": 0.1}',
              f"{ROLLOUT}.replay": '{"share": 0.25}'},
         f"{ROLLOUT}.replay.share", "answers that are right or wrong"),
        ([], {"model.optimizer.sft.lr": 0.1}, "model.optimizer.sft.lr", "steps that imitate"),
        (["recipe/gkd", "ablation/gamma_0.3"], {}, GAMMA, "divergence: null"),
        seldom(["recipe/gkd"], {f"{OBJECTIVE}.normalizer.mode": "token"},
         f"{OBJECTIVE}.normalizer.mode", "divergence: null"),
        seldom(["recipe/gkd"], {f"{OBJECTIVE}.on_policy.shaping": '{"kind": "log"}'},
         f"{OBJECTIVE}.on_policy.shaping.kind", "divergence: null"),
        seldom(["recipe/gkd"], {f"{OBJECTIVE}.max_probability": 0.5},
         f"{OBJECTIVE}.max_probability", "divergence: null"),
        seldom(["recipe/gkd"], {"data.advantage.scale": "group_std"},
         "data.advantage.scale", "divergence: null"),
        (["recipe/sft"], {f"{OBJECTIVE}.normalizer.mode": "token"},
         f"{OBJECTIVE}.normalizer.mode", "rows in the policy term"),
        seldom(["recipe/sft"], {f"{OBJECTIVE}.on_policy.positive_weight": '{"scale": 2.0}'},
         f"{OBJECTIVE}.on_policy.positive_weight.scale", "rows that the policy samples"),
        (["recipe/sft", "recipe/truncated_importance_sampling"], {},
         f"{OBJECTIVE}.on_policy.mismatch_cap", "rows that the policy samples"),
        seldom(["recipe/sft"], {f"{ROLLOUT}.refill_tries": 2},
         f"{ROLLOUT}.refill_tries", "rows that the policy samples"),
        (["recipe/sft"], {f"{OBJECTIVE}.off_policy.top_entropy_share": 0.5},
         f"{OBJECTIVE}.off_policy.top_entropy_share", "off_policy.policy_coef"),
        seldom(["recipe/on_policy"], {f"{OBJECTIVE}.off_policy.top_entropy_share": 0.5},
         f"{OBJECTIVE}.off_policy.top_entropy_share", "rows that the policy did not"),
        (["recipe/opsd"], {"data.advantage.scale": "group_std"},
         "data.advantage.scale", "rows that learn from their reward"),
        (["recipe/on_policy"], {"data.advantage.rollouts": "sign",
                                "data.advantage.scale": "group_std"},
         "data.advantage.scale", "rewards that are compared"),
        seldom(["recipe/on_policy"], {"expert.every_n_phases": 1},
         "expert.every_n_phases", "rows that the policy did not"),
        ([], {f"{OBJECTIVE}.distillation": '{"coef": 0.0, "clip": 1.0}'},
         f"{OBJECTIVE}.distillation.clip", "distillation.coef"),
        ([], {"data.train.max_bad_share": 0.5}, "data.train.max_bad_share", "on_bad_row: skip"),
        (["recipe/opd"], {"data.train.hint_template": "{question}{hint}"},
         "data.train.hint_template", "a hint to write"),
        (["hardware/servers"], {"data.engine.server.folder": "/tmp"},
         "data.engine.server.folder", "server.transfer: file"),
        seldom(["hardware/servers"], {"data.engine.server.transfer": "file",
                                "data.engine.server.nccl_port": 29601},
         "data.engine.server.nccl_port", "server.transfer: nccl"),
        ([], {"model.optimizer.non_finite.policy": "raise",
              "model.optimizer.non_finite.max_total": 5},
         "model.optimizer.non_finite.max_total", "non_finite.policy: skip"),
    ],
)  # fmt: skip
def test_refused_where_it_is_set(overlays, settings, named, needed):
    with pytest.raises(ConfigError) as refused:
        compose(quickstart(*overlays, **settings))
    assert refused.value.where == named
    assert needed in str(refused.value)


@pytest.mark.parametrize(
    ("overlay", "dropped"),
    [
        ("recipe/srft", {f"{OBJECTIVE}.normalizer.constant_tokens", GAMMA}),
        ("ablation/token_mean", {f"{OBJECTIVE}.normalizer.constant_tokens"}),
        ("ablation/no_shaping", {GAMMA}),
    ],
)
def test_dropped_where_a_later_file_makes_it_so_and_said(command_line, tmp_path, overlay, dropped):
    done = command_line(*quickstart(overlay), "--dry_run=true", f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines() if "is dropped" in line]
    assert {line.partition("=")[0] for line in lines} == dropped
    assert all(("conf/quickstart.yaml" in line and f"conf/{overlay}" in line) or "command" in line
               for line in lines)  # fmt: skip


def test_a_base_may_word_hints_for_recipes_that_give_some():
    """The quickstart does; a recipe without hints leaves its words alone."""
    for overlays in ([], ["recipe/opd"], ["recipe/opsd"], ["recipe/ghpo"]):
        config = flat(compose(quickstart(*overlays)))
        assert config["data.train.hint_template"] == "<book>{question}{hint}"
    own = {"data.train.hint_template": "<book>{hint}{question}"}
    for recipe in ("recipe/opsd", "recipe/ghpo"):
        config = flat(compose(quickstart(recipe, **own)))
        assert config["data.train.hint_template"] == own["data.train.hint_template"]


def test_the_default_of_an_earlier_version_is_no_setting(tmp_path, command_line):
    """Its config.yaml holds `max_bad_share: 0.005`, which nobody had set."""
    shown = command_line(*quickstart(), "--print_config").stdout
    assert "max_bad_share: 0.1\n" in shown
    earlier = shown.replace("max_bad_share: 0.1\n", "max_bad_share: 0.005\n")
    (tmp_path / "whole.yaml").write_text(earlier)
    again = command_line("fit", "--config", tmp_path / "whole.yaml", "--print_config")
    assert again.returncode == 0, again.stderr


def test_a_dropped_setting_is_the_default():
    config = flat(compose(quickstart("recipe/srft")))
    assert config[f"{OBJECTIVE}.normalizer.constant_tokens"] is None
    assert GAMMA not in config


def test_what_is_written_out_composes_again(tmp_path, command_line):
    shown = command_line(*quickstart("recipe/srft"), "--print_config").stdout
    (tmp_path / "whole.yaml").write_text(shown)
    again = command_line("fit", "--config", tmp_path / "whole.yaml", "--print_config")
    assert again.stdout == shown
    assert not again.stderr


@pytest.mark.parametrize(
    ("recipe", "setting", "value"),
    [
        ("recipe/sft_then_rl", "model.optimizer.sft.schedule.kind", "constant"),
        ("recipe/chord_mu", f"{OBJECTIVE}.sft.schedule.decay_phases", 0),
    ],
)
def test_inside_an_optional_section_too(tmp_path, command_line, recipe, setting, value):
    """What an overlay makes inert is dropped, and a default that is written out is no setting."""
    overlay = tmp_path / "overlay.yaml"
    opened = setting.replace(".", ": {")
    overlay.write_text(f"{opened}: {value}" + "}" * setting.count("."))
    config = flat(compose([*quickstart(recipe), "--config", str(overlay)]))
    assert config[setting] == value
    assert config[f"{setting.rpartition('.')[0]}.floor"] == 0.0
    shown = command_line(*quickstart(recipe), "--config", overlay, "--print_config").stdout
    (tmp_path / "whole.yaml").write_text(shown)
    again = command_line("fit", "--config", tmp_path / "whole.yaml", "--print_config")
    assert (again.returncode, again.stdout) == (0, shown), again.stderr


def test_a_kind_can_change_and_change_back():
    shaping = f"{OBJECTIVE}.off_policy.shaping"
    config = flat(
        compose(quickstart("recipe/srft", **{shaping: '{"kind": "p_div_p", "gamma": 0.5}'}))
    )
    assert config[GAMMA] == 0.5
    assert config[f"{shaping}.kind"] == "p_div_p"


def test_what_earlier_versions_wrote_of_a_shaping_is_read():
    earlier = '{"kind": "clip", "gamma": 0.1, "ceiling": 0.3, "exponent": 0.5, "weight": 0.1}'
    config = flat(compose(quickstart(**{f"{OBJECTIVE}.off_policy.shaping": earlier})))
    assert config[f"{OBJECTIVE}.off_policy.shaping.ceiling"] == 0.3
    assert GAMMA not in config


def test_a_clip_that_cannot_bind_is_warned_of(command_line, tmp_path):
    done = command_line(
        *quickstart("recipe/on_policy"), "--model.optimizer.steps_per_phase=1",
        "--dry_run=true", f"--run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0
    *_, warning, last = done.stdout.splitlines()
    assert warning.startswith("warning   model.objective.on_policy.gate changes nothing")
    assert last == "OK, with 1 warning"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"kind": "pdivp"}', "did you mean p_div_p?"),
        ('{"kind": "p_div_p", "gama": 0.1}', "did you mean gamma?"),
        ('{"kind": "p_div_p", "gamma": -1}', f"{GAMMA}: must be above 0"),
        ('{"kind": "p_div_p", "gamma": .nan}', f"{GAMMA}: must be above 0"),
        ('{"kind": "p_div_p", "gamma": "much"}', f"{GAMMA}: must be float"),
        ("3", "must be a section"),
    ],
)
def test_a_wrong_kind_or_field_is_one_line(command_line, value, words):
    done = command_line(*quickstart(), "--model.objective.off_policy.shaping", value)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_table_names_settings_and_no_chain_is_longer_than_the_rounds():
    config = flat(compose(quickstart()))
    optional = {
        "model.optimizer.sft",
        f"{ROLLOUT}.guidance",
        f"{ROLLOUT}.teacher_prompt",
        f"{OBJECTIVE}.distillation",
        f"{OBJECTIVE}.divergence",
        *(f"{OBJECTIVE}.{name}.schedule" for name in ("sft", "entropy", "kl")),
    }
    for name, needs in NEEDS.items():
        names = {name, *(key for need in needs for key in need.of)}
        for key in names:
            known = any(one == key or one.startswith(f"{key}.") for one in config)
            assert known or any(key.startswith(section) for section in optional), key

    def depth(name):
        needed = {key for need in NEEDS.get(name, ()) for key in need.of}
        return 1 + max(map(depth, needed), default=0)

    assert max(map(depth, NEEDS)) < MAX_ROUNDS
