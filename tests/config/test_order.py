"""A base, then one recipe, then what changes it; another order is refused with the right one."""

import pytest
import yaml
from composing import ROOT, composed, fit

from luffy_pl.config.order import check_order, recipe_name
from luffy_pl.config.sources import read_sources
from luffy_pl.errors import ConfigError

QUICKSTART, LUFFY = "conf/quickstart.yaml", "conf/luffy.yaml"
RECIPES = sorted(file.stem for file in (ROOT / "conf" / "recipe").glob("*.yaml"))
ADD_ONS = {"adaptive_entropy", "kl_in_loss", "kl_in_reward", "truncated_importance_sampling"}
WHOLE = sorted(set(RECIPES) - ADD_ONS)


def recipe(name):
    return f"conf/recipe/{name}.yaml"


def sources(*files):
    return read_sources([word for file in files for word in ("--config", file)])


def refused(*files):
    with pytest.raises(ConfigError) as error:
        check_order(sources(*files))
    return error.value


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def written(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_run_its_name(name):
    expected = f"luffy+{name}" if name in ADD_ONS else name
    assert recipe_name(sources(QUICKSTART, recipe(name))) == expected


def test_a_base_is_luffy():
    for base in (QUICKSTART, LUFFY, "conf/gsm8k_smollm2.yaml"):
        assert recipe_name(sources(base)) == "luffy"


def test_add_ons_go_with_any_recipe_and_are_named():
    files = [recipe("dapo"), recipe("kl_in_loss"), recipe("truncated_importance_sampling")]
    check_order(sources(QUICKSTART, *files))
    config = fit(QUICKSTART, *files)
    assert config.recipe == "dapo+kl_in_loss+truncated_importance_sampling"
    assert config.model.objective.kl.coef == 0.001
    assert config.data.rollout.refill_tries == 3


@pytest.mark.parametrize(
    ("below", "above"),
    [("hpt", "chord_mu"), ("dapo", "on_policy"), ("on_policy", "luffy"), ("luffy", "dapo")],
)
def test_two_recipes_are_refused(below, above):
    error = refused(LUFFY, recipe(below), recipe(above))
    assert error.where == "recipe"
    assert f"laid over {below} of {recipe(below)}" in error.what
    assert error.fix.endswith(f"--config {LUFFY} --config {recipe(above)}")


def test_an_add_on_comes_after_the_recipe():
    error = refused(QUICKSTART, recipe("kl_in_loss"), recipe("grpo_std"))
    assert f"laid over luffy+kl_in_loss of {recipe('kl_in_loss')}" in error.what
    assert "add-ons after it" in error.fix


def test_a_recipe_over_a_run_of_another_recipe_is_refused(tmp_path, command_line):
    shown = command_line("fit", "--config", QUICKSTART, "--config", recipe("dapo"),
                         "--print_config").stdout  # fmt: skip
    run = tmp_path / "config.yaml"
    run.write_text(shown)
    check_order(sources(str(run), recipe("dapo")))
    assert recipe_name(sources(str(run), recipe("dapo"))) == "dapo"
    assert f"laid over dapo of {run}" in refused(str(run), recipe("hpt")).what


@pytest.mark.parametrize("base", [LUFFY, QUICKSTART])
@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_before_its_base_is_refused(base, name):
    if name == "luffy":
        return  # in either order they are the same
    error = refused(recipe(name), base)
    assert f"of {recipe(name)} is overridden by {base}" in error.what
    assert error.fix == f"put the base first: --config {base} --config {recipe(name)}"


@pytest.mark.parametrize(
    "overlay", ["recipe/kl_in_loss", "hardware/one_gpu", "hardware/two_nodes", "eval/math"]
)
def test_so_is_any_overlay_that_loses_a_setting(overlay):
    assert "is overridden by" in refused(f"conf/{overlay}.yaml", LUFFY).what


def test_an_ablation_acts_wherever_it_stands():
    config = fit("conf/ablation/gamma_0.3.yaml", QUICKSTART)
    assert config.model.objective.off_policy.shaping.gamma == 0.3


@pytest.mark.parametrize("second", ["gamma_0.5", "token_mean"])
def test_of_two_ablations_none_is_lost_in_silence(second):
    error = refused(QUICKSTART, "conf/ablation/gamma_0.3.yaml", f"conf/ablation/{second}.yaml")
    assert "of conf/ablation/gamma_0.3.yaml is replaced by" in error.what
    assert "--model.objective.off_policy.shaping.gamma=0.3" in error.fix


@pytest.mark.parametrize("order", [("kl_in_loss", "kl_in_reward"), ("kl_in_reward", "kl_in_loss")])
def test_add_ons_that_contradict_each_other_are_refused(order):
    error = refused(QUICKSTART, *map(recipe, order))
    assert error.where.startswith("model.objective.kl.")
    assert f"of the add-on {recipe(order[0])} is overridden" in error.what


def test_overlays_of_ones_own_are_laid_in_any_number(tmp_path):
    own_base = written(tmp_path, "own_base.yaml", {
        "model": {"policy": {"path": "bundled:base"}, "objective": {"entropy": {"coef": 0.5}}},
        "data": {"train": {"path": "bundled:train.jsonl"}},
    })  # fmt: skip
    # The method in one file, the model in another.
    method = written(tmp_path, "method.yaml", {
        "model": {"objective": {"entropy": {"coef": 0.2}}},
        "data": {"train": {"path": "bundled:train.jsonl"}},
    })  # fmt: skip
    model = written(tmp_path, "model.yaml", {
        "model": {"policy": {"path": "bundled:base"}, "objective": {"entropy": {"coef": 0.3}}},
    })  # fmt: skip
    assert fit(own_base).recipe is None
    assert fit(method, model).model.objective.entropy.coef == 0.3
    # A whole run over a base exchanges its model and data.
    for files in ([LUFFY, own_base], [QUICKSTART, recipe("dapo"), own_base]):
        assert fit(*files).model.objective.entropy.coef == 0.5
    assert fit(QUICKSTART, recipe("dapo"), own_base).recipe == "dapo"


def test_a_name_may_be_given_and_must_be_one():
    words = ["--config", QUICKSTART]
    assert composed("fit", *words, "--recipe=+mine").recipe == "luffy+mine"
    assert recipe_name(read_sources([*words, "--recipe", "mine"])) == "mine"
    assert recipe_name(read_sources([*words, "--recipe=null"])) is None
    for wrong in ("a b", "| x", "<b>", "+"):
        with pytest.raises(ConfigError, match="recipe: may hold letters"):
            recipe_name(read_sources([*words, f"--recipe={wrong}"]))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "is missing. Fix: begin with a base: --config conf/quickstart.yaml"),
        ([recipe("dapo")], "names no model (model.policy.path): these files are overlays"),
    ],
)
def test_settings_without_a_model_are_refused(command_line, files, words):
    done = command_line("fit", *(word for file in files for word in ("--config", file)))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert words in line


def test_the_command_line_says_it_in_one_line(command_line):
    files = ["--config", recipe("on_policy"), "--config", LUFFY]
    for command in (["fit", "--dry_run=true"], ["validate"], ["estimate"]):
        done = command_line(*command, *files)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert "is overridden by conf/luffy.yaml" in line
