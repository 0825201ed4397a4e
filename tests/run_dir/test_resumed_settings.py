"""A run that goes on takes the settings it is given, or refuses them; a finished one trains on."""

import math
import shutil

import pytest
import torch
from recipes.small_runs import SMALL
from same_run import differences, final_state, numbers

from luffy_pl.callbacks import summary
from luffy_pl.run_dir.status import read_status
from luffy_pl.training.optimizer import apply_settings, build_optimizers, learning_rates
from luffy_pl.training.settings import (
    LearningRateSchedule,
    OptimizerConfig,
    SftOptimizerConfig,
)

TINY = [
    "--config", "conf/quickstart.yaml", *SMALL,
    "--data.rollout.prompts_per_phase", "2", "--data.rollout.group_size", "2",
    "--checkpoint.every_n_phases", "1",
]  # fmt: skip
SFT_THEN_RL = ["--config", "conf/recipe/sft_then_rl.yaml", "--data.rollout.sft_phases", "1"]
NO_STEP = "1e-30"
"""A learning rate whose steps are lost in the rounding of every weight."""
OTHER = OptimizerConfig(
    lr=0.5, betas=(0.1, 0.2), eps=0.3, weight_decay=0.4, warmup_steps=2,
    schedule=LearningRateSchedule("linear", decay_steps=4),
    sft=SftOptimizerConfig(lr=0.7, warmup_steps=8),
)  # fmt: skip


@pytest.fixture
def fit(command_line, tmp_path):
    def run(*settings, phases, name="run"):
        return command_line(
            "fit", *TINY, "--data.rollout.num_phases", phases, "--run_dir", tmp_path / name,
            *settings,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def one_phase(tmp_path_factory):
    from luffy_pl.cli import main

    folder = tmp_path_factory.mktemp("one_phase")
    settings = ["--data.rollout.num_phases", "1", "--run_dir", str(folder)]
    assert main(["fit", *TINY, *settings]) == 0
    return folder


@pytest.fixture
def began(one_phase, tmp_path):
    """The folder of a finished run of one phase."""
    return shutil.copytree(one_phase, tmp_path / "run", symlinks=True)


def learned(run_dir):
    """Weights, and the settings of each optimizer."""
    state = final_state(run_dir)
    return state["state_dict"], [of["param_groups"][0] for of in state["optimizer_states"]]


def trained(config, *, num_steps):
    """Optimizers and schedules after some steps of one weight."""
    weight = torch.nn.Parameter(torch.ones(2))
    made = build_optimizers([weight], config, learning_rates(config, num_phases=9))
    optimizers, schedules = ([one[key] for one in made] for key in ("optimizer", "lr_scheduler"))
    for _ in range(num_steps):
        weight.grad = torch.ones(2)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    return optimizers, schedules


def restored(before, after, *, num_steps):
    """What `before` trained, taken over by `after`."""
    old, new = trained(before, num_steps=num_steps), trained(after, num_steps=0)
    for olds, news in zip(old, new, strict=True):
        for one, other in zip(olds, news, strict=True):
            other.load_state_dict(one.state_dict())
    apply_settings(*new, after, learning_rates(after, num_phases=9))
    return new


def test_restored_optimizers_have_the_settings_of_the_configuration():
    before = OptimizerConfig(lr=0.01, warmup_steps=2, sft=SftOptimizerConfig(lr=0.02))
    (first, second), schedules = restored(before, OTHER, num_steps=3)
    # Three steps are done. The fourth is the second of a fall of four, or of a warm-up of eight.
    now, then = (0.5 * 3 / 4, 0.7 * 4 / 8), (0.5 * 2 / 4, 0.7 * 5 / 8)
    for optimizer, rate in zip((first, second), now, strict=True):
        [group] = optimizer.param_groups
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.1, 0.2), 0.3, 0.4)
        assert group["lr"] == rate
        assert optimizer.state[group["params"][0]]["step"] == 3
    for schedule, rate, next_rate in zip(schedules, now, then, strict=True):
        assert schedule.get_last_lr() == [rate]
        schedule.step()
        assert schedule.get_last_lr() == [next_rate]


@pytest.mark.parametrize("num_steps", [0, 1, 5, 9])
def test_with_the_same_settings_nothing_changes(num_steps):
    whole = trained(OTHER, num_steps=num_steps)
    goes_on = restored(OTHER, OTHER, num_steps=num_steps)
    for kept, new in zip((*whole[0], *whole[1]), (*goes_on[0], *goes_on[1]), strict=True):
        kept, new = kept.state_dict(), new.state_dict()
        kept.pop("state", None), new.pop("state", None)
        kept.pop("lr_lambdas", None), new.pop("lr_lambdas", None)
        assert kept == new


def test_a_resumed_run_trains_with_the_settings_it_announces(fit, tmp_path):
    assert fit(*SFT_THEN_RL, phases=2).returncode == 0
    before, _ = learned(tmp_path / "run")
    done = fit(
        *SFT_THEN_RL, "--resume", "true", "--model.optimizer.lr", NO_STEP,
        "--model.optimizer.betas", "[0.8, 0.95]", "--model.optimizer.weight_decay", "0.5",
        "--model.optimizer.eps", "1e-5", "--model.optimizer.sft.lr", "0.25", phases=3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "resume: model.optimizer.sft.lr is now 0.25, it was 5e-05" in done.stderr
    after, (policy, imitation) = learned(tmp_path / "run")
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert numbers(tmp_path / "run")[3]["actor/lr"] == 1e-30
    # Of ten steps of warm-up two are done.
    assert (policy["lr"], imitation["lr"]) == (1e-30, pytest.approx(0.25 * 3 / 10))
    for group in (policy, imitation):
        assert tuple(group["betas"]) == (0.8, 0.95)
        assert (group["weight_decay"], group["eps"]) == (0.5, 1e-5)


def test_a_finished_run_trains_on_to_what_the_longer_run_is(fit, tmp_path):
    """Schedules that count steps or phases of their own do not know how long a run is."""
    warm_up = [
        "--model.optimizer.warmup_steps", "3",
        "--model.optimizer.schedule", "{kind: cosine, decay_steps: 7, floor: 0.1}",
        "--model.objective.entropy.schedule", "{decay_phases: 3, shape: linear}",
    ]  # fmt: skip
    assert fit(*warm_up, phases=2).returncode == 0
    done = fit(*warm_up, "--resume", "true", phases=4)
    assert done.returncode == 0, done.stderr
    assert "resume: data.rollout.num_phases is now 4, it was 2" in done.stderr
    assert fit(*warm_up, phases=4, name="whole").returncode == 0
    assert differences(tmp_path / "run", tmp_path / "whole") == []
    assert final_state(tmp_path / "run")["phase"] == 4
    # Two steps per phase: steps 1, 3, 5 and 7 are the last ones, of 3 of a warm-up and 7 of a fall.
    found = numbers(tmp_path / "run")
    rates = [found[phase]["actor/lr"] / 2e-4 for phase in (1, 2, 3, 4)]
    falls = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done / 7)) for done in (1, 3, 5)]
    assert rates == pytest.approx([1.0, *falls])
    coefficients = [found[phase]["actor/entropy_coeff"] for phase in (1, 2, 3, 4)]
    assert coefficients == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3, 0.0])


def test_a_finished_run_says_so_and_starts_nothing(fit, began):
    before = content(began)
    for more in ([], ["--dry_run", "true"], ["--model.optimizer.lr", "0.5"]):
        done = fit("--resume", "true", *more, phases=1)
        assert done.returncode == 0
        # What a dry run says is its result.
        line, *_ = (done.stdout if "--dry_run" in more else done.stderr).splitlines()
        assert "is finished, all 1 phases are trained; nothing is started" in line
        assert "raise data.rollout.num_phases" in line
    assert content(began) == before


def test_a_run_that_ends_before_its_last_figures_is_not_finished(
    fit, command_line, tmp_path, monkeypatch
):
    evaluated = ["--data.benchmarks", '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", '
                 '"limit": 2}}]']  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(summary, "plot_runs", raise_keyboard_interrupt)
        assert fit(*evaluated, phases=1).returncode == 130
    assert not (tmp_path / "run" / "curves.png").exists()
    assert read_status(tmp_path / "run").state == "stopped"
    done = command_line("fit", "--resume", "--run_dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "curves.png").exists()
    assert read_status(tmp_path / "run").state == "finished"


def raise_keyboard_interrupt(*_):
    raise KeyboardInterrupt


def content(folder):
    """Every file of a folder, with the time of its last change."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ([], ["--data.rollout.num_phases", "1"], "num_phases: is below the 2 phases that"),
        (SFT_THEN_RL[:2], [], "model.optimizer.sft: would be an optimizer that"),
        (
            ["--config", "conf/recipe/adaptive_entropy.yaml"],
            ["--model.objective.entropy.coef", "0.5"],
            "model.objective.entropy.coef: is where the controller of entropy.target_nats began",
        ),
        pytest.param(
            ["--config", "conf/recipe/kl_in_reward.yaml"],
            ["--model.objective.kl.coef", "0.5"],
            "model.objective.kl.coef: is where the controller of kl.target_nats began",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_could_have_no_effect_is_refused(fit, tmp_path, recipe, settings, words):
    began_with = [] if recipe == SFT_THEN_RL[:2] else recipe
    assert fit(*began_with, phases=2).returncode == 0
    checkpoint = ["--ckpt_path", tmp_path / "run" / "checkpoints" / "last.ckpt"]
    for how in (["--resume", "true"], ["--resume", "true", "--dry_run", "true"], checkpoint):
        run_dir = ["--run_dir", tmp_path / "other"] if how is checkpoint else []
        done = fit(*recipe, *how, *run_dir, *settings, phases=3)
        assert done.returncode == 2, done.stderr
        [line] = done.stderr.splitlines()
        assert words in line


def test_what_only_the_first_phases_knew_is_refused(fit, began):
    for setting in (
        ["--data.rollout.sft_phases", "1", "--model.objective.sft.coef", "0.5"],
        ["--evaluation.before_training", "false"],
    ):
        done = fit("--resume", "true", *setting, phases=2)
        assert done.returncode == 2
        assert f"{setting[0].removeprefix('--')}: would have no effect: the run in" in done.stderr
        assert "has trained 1 phases with" in done.stderr
    longer = ["--data.rollout.sft_phases", "2", "--model.objective.sft.coef", "0.5"]
    assert fit("--resume", "true", *longer, "--dry_run", "true", phases=3).returncode == 0


def test_settings_that_are_refused_are_not_kept(fit, command_line, began):
    """Other data is found out when the settings are already written."""
    kept = (began / "config.yaml").read_bytes()
    done = fit("--resume", "true", "--data.train.limit", "100", phases=2)
    assert done.returncode == 2
    assert "data.train: other prompts" in done.stderr
    assert "resume: config.yaml is as it was before" in done.stderr
    assert (began / "config.yaml").read_bytes() == kept
    assert not (began / "resumes.jsonl").exists()
    alone = ["fit", "--resume", "--run_dir", began, "--data.rollout.num_phases"]
    assert command_line(*alone, "2").returncode == 0
    said = (began / "resumes.jsonl").read_bytes()
    assert fit("--resume", "true", "--data.train.limit", "100", phases=3).returncode == 2
    assert (began / "resumes.jsonl").read_bytes() == said
    assert command_line(*alone, "3").returncode == 0


def test_a_checkpoint_of_all_phases_leaves_nothing_to_train(fit, began):
    done = fit("--ckpt_path", began / "checkpoints" / "last.ckpt", phases=1, name="other")
    assert done.returncode == 2
    assert "ckpt_path: has trained all phases of data.rollout.num_phases=1" in done.stderr


def test_a_coefficient_that_nothing_has_moved_is_the_one_of_the_configuration(fit, began):
    """A controller that is switched on later begins where it is told to."""
    controller = ["--config", "conf/recipe/adaptive_entropy.yaml"]
    start = ["--model.objective.entropy.coef", "0.03", "--model.objective.entropy.lr", "1e-9"]
    done = fit(*controller, *start, "--resume", "true", phases=2)
    assert done.returncode == 0, done.stderr
    state = final_state(began)
    assert state["luffy_pl"]["entropy_coef"] == pytest.approx(0.03)
