"""Every option of Lightning's trainer is honoured, or refused with the setting that replaces it."""

import inspect

import lightning as L
import pytest
from composing import composed

from luffy_pl.config.cross_checks import check_replicas
from luffy_pl.config.trainer_checks import HONOURED, REPLACED, check_trainer
from luffy_pl.errors import ConfigError
from luffy_pl.process.ranks import count_ranks

OTHER = {
    "logger": [True, False, {"class_path": "lightning.pytorch.loggers.CSVLogger"}],
    "fast_dev_run": [True, 3, 1],
    "max_epochs": [3, -1],
    "min_epochs": [1],
    "max_steps": [10, 0],
    "min_steps": [5],
    "max_time": ["00:00:01:00"],
    "limit_train_batches": [0.5, 2],
    "limit_val_batches": [0, 1.0],
    "limit_test_batches": [2],
    "limit_predict_batches": [2],
    "overfit_batches": [1],
    "val_check_interval": [2],
    "check_val_every_n_epoch": [2, None],
    "num_sanity_val_steps": [2, -1, None],
    "log_every_n_steps": [50],
    "enable_checkpointing": [False],
    "enable_progress_bar": [False],
    "accumulate_grad_batches": [4],
    "gradient_clip_val": [1.0, 0],
    "gradient_clip_algorithm": ["value"],
    "use_distributed_sampler": [False],
    "detect_anomaly": [True],
    "barebones": [True],
    "sync_batchnorm": [True],
    "reload_dataloaders_every_n_epochs": [1],
    "enable_autolog_hparams": [False],
    "model_registry": ["mine"],
}


def quickstart(*settings):
    return composed("fit", "--config", "conf/quickstart.yaml", *settings)


def with_trainer(**changed):
    """The quickstart with other options of the trainer."""
    config = quickstart().clone()
    for name, value in changed.items():
        config.trainer[name] = value
    return config


def refused(**changed):
    with pytest.raises(ConfigError) as error:
        check_trainer(with_trainer(**changed))
    return error.value


def test_every_option_is_decided():
    options = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert options == {*HONOURED, *REPLACED, "default_root_dir"}
    assert OTHER.keys() == REPLACED.keys()


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, of in OTHER.items() for v in of])
def test_an_option_that_is_replaced_is_refused(name, value):
    error = refused(**{name: value})
    assert error.where == f"trainer.{name}"
    assert "is not what decides this here" in error.what


def test_a_refusal_names_the_setting_to_use():
    for name, setting in {
        "max_epochs": "data.rollout.num_phases", "gradient_clip_val": "max_grad_norm",
        "accumulate_grad_batches": "micro_batch_tokens", "limit_val_batches": "limit",
        "check_val_every_n_epoch": "evaluation.every_n_phases", "logger": "loggers",
    }.items():  # fmt: skip
        assert setting in refused(**{name: OTHER[name][0]}).fix


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_epochs", "3"), ("logger", "true"), ("limit_val_batches", "0"), ("precision", "16-mixed"),
     ("devices", "0"), ("num_nodes", "0"), ("default_root_dir", "elsewhere")],
)  # fmt: skip
def test_the_command_line_refuses_in_one_line(command_line, name, value):
    done = command_line("fit", "--config", "conf/quickstart.yaml", f"--trainer.{name}={value}")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"luffy-pl: error [2] trainer.{name}: ")


def test_what_earlier_versions_wrote_of_the_folder_is_read(tmp_path):
    old = tmp_path / "config.yaml"
    old.write_text("run_dir: a\ntrainer: {default_root_dir: a, max_epochs: 1}\n")
    files = ["--config", "conf/quickstart.yaml", "--config", str(old)]
    assert composed("fit", *files, "--run_dir=b").run_dir == "b"


@pytest.mark.parametrize(
    "setting", ["optimizer=torch.optim.SGD", "lr_scheduler=torch.optim.lr_scheduler.ConstantLR"]
)
def test_another_optimizer_is_refused(setting):
    with pytest.raises(ConfigError, match=r"cannot be exchanged.*Fix: set model.optimizer"):
        quickstart(f"--{setting}")


@pytest.mark.parametrize("precision", [None, 32, "32", "32-true", "bf16", "bf16-mixed"])
def test_precisions_that_train(precision):
    check_trainer(with_trainer(precision=precision))


@pytest.mark.parametrize(
    ("precision", "why"),
    [
        ("bf16-true", "model.policy.dtype: bfloat16"),
        (16, "max_grad_norm would clip"),
        ("16", "max_grad_norm would clip"),
        ("16-mixed", "max_grad_norm would clip"),
        ("16-true", "no room for gradients"),
        (64, "float32 or bfloat16"),
        ("64-true", "float32 or bfloat16"),
        ("transformer-engine", "not supported"),
        ("transformer-engine-float16", "not supported"),
    ],
)
def test_other_precisions_are_refused_with_the_reason(precision, why):
    error = refused(precision=precision)
    assert error.where == "trainer.precision"
    assert why in error.what


@pytest.mark.parametrize(
    ("accelerator", "devices"),
    [("cpu", 0), ("cpu", -1), ("cpu", "-1"), ("cpu", [0, 1]), ("cpu", "0,1"), ("cpu", "x"),
     ("gpu", 0), ("gpu", -2), ("gpu", []), ("gpu", ","), ("gpu", "a,b"), ("auto", "0"),
     ("cpu", 10**20), ("gpu", str(10**20))],
)  # fmt: skip
def test_a_number_of_devices_that_is_none_is_refused(accelerator, devices):
    assert refused(accelerator=accelerator, devices=devices).where == "trainer.devices"


@pytest.mark.parametrize(
    ("accelerator", "devices", "ranks"),
    [("cpu", 2, 2), ("cpu", "auto", 1), ("gpu", [0, 3], 2), ("gpu", "0,1,3", 3), ("gpu", "2,", 1),
     ("gpu", "4", 4)],
)  # fmt: skip
def test_devices_are_counted_as_lightning_takes_them(accelerator, devices, ranks):
    config = with_trainer(accelerator=accelerator, devices=devices)
    check_trainer(config)
    assert count_ranks(config.trainer).total == ranks


@pytest.mark.parametrize("value", [0, -1])
def test_a_number_of_nodes_that_is_none_is_refused(value):
    assert refused(num_nodes=value).where == "trainer.num_nodes"


def test_a_plugin_brings_no_other_precision(command_line, tmp_path):
    plugin = "[lightning.pytorch.plugins.precision.HalfPrecision]"
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--run_dir", tmp_path / "run",
        f"--trainer.plugins={plugin}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "trainer.precision: cannot be used" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("accelerator", "tpu"), ("accelerator", "bogus"), ("strategy", "ddp_spawn"),
     ("strategy", "ddp_notebook"), ("strategy", "bogus")],
)  # fmt: skip
def test_kinds_of_devices_and_processes_that_cannot_train_are_refused(name, value):
    error = refused(**{name: value})
    assert error.where == f"trainer.{name}"
    assert error.value == value


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_other_strategies_are_left_to_lightning(strategy):
    check_trainer(with_trainer(strategy=strategy))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--model.policy.replicas", "2"], "trainer.strategy shards none"),
        (["--model.policy.replicas", "2", "--trainer.devices", "2"], "shards none"),
        (["--config", "conf/hardware/cpu_two_ranks.yaml", "--model.policy.replicas", "2"],
         "must divide the number of ranks, 2, and leave each copy more than one"),
    ],
)  # fmt: skip
def test_copies_that_the_ranks_cannot_hold_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        check_replicas(quickstart(*settings))


def test_one_copy_for_each_node():
    check_replicas(quickstart())
    nodes = ("conf/hardware/eight_gpus.yaml", "conf/hardware/two_nodes.yaml")
    check_replicas(quickstart(*(word for file in nodes for word in ("--config", file))))
