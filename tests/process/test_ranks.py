"""What a section `trainer` says about processes."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy, model_parallel

from luffy_pl.errors import ConfigError
from luffy_pl.process.ranks import Ranks, count_ranks, group_timeout
from luffy_pl.run.command import LuffyCLI


def trainer(devices, num_nodes=1, kind="ModelParallelStrategy", **sizes):
    init_args = SimpleNamespace(**sizes)
    strategy = SimpleNamespace(class_path=f"of.{kind}", init_args=init_args) if sizes else "auto"
    return SimpleNamespace(devices=devices, num_nodes=num_nodes, strategy=strategy)


def sizes(data, tensor):
    return {"data_parallel_size": data, "tensor_parallel_size": tensor}


@pytest.mark.parametrize(("given", "expected"), [
    (trainer(1), Ranks(1)),
    (trainer(4, 2), Ranks(8)),
    (trainer([0, 3]), Ranks(2)),
    (trainer(8, 2, **sizes(16, 1)), Ranks(16, is_sharded=True)),
    (trainer(8, 2, **sizes(4, 4)), Ranks(16, is_sharded=True, tensor=4)),
    # Lightning's defaults: each node cuts layers, and the nodes shard.
    (trainer(8, 2, **sizes("auto", "auto")), Ranks(16, is_sharded=True, tensor=8)),
    (
        trainer(8, kind="OffloadStrategy", **sizes(8, 1)),
        Ranks(8, is_sharded=True, offloads=True),
    ),
])  # fmt: skip
def test_processes_are_counted(given, expected):
    assert count_ranks(given) == expected


@pytest.mark.parametrize(("given", "fix"), [
    (trainer(8, **sizes(8, 2)), "got 8. Fix: use 4"),
    (trainer(8, **sizes(4, 3)), "got 4. Fix: change either"),
    (trainer(2, **sizes(3, 1)), "got 3. Fix: use 2"),
])  # fmt: skip
def test_sizes_of_other_devices_are_refused(given, fix):
    with pytest.raises(ConfigError, match=r"is not the number of ranks") as refused:
        count_ranks(given)
    assert fix in str(refused.value)


def test_what_the_machine_has_is_not_compared():
    assert count_ranks(trainer("auto", **sizes(8, 1))).is_sharded


@pytest.mark.parametrize(
    ("deadline_s", "expected_s"), [(30.0, 1800), (1200.0, 1800), (3600.0, 4200), (1e9, 1e9 + 600)]
)
def test_ranks_wait_longer_than_the_engine_may_stand_still(deadline_s, expected_s):
    assert group_timeout(deadline_s).total_seconds() == expected_s


def test_without_a_deadline_ranks_wait_as_good_as_for_ever():
    assert group_timeout(None).days == 10_000


@pytest.mark.parametrize(("deadline", "expected_s"), [("7200", 7800), ("60", 1800)])
def test_the_process_group_of_a_run_waits_as_long(
    command_line, monkeypatch, tmp_path, deadline, expected_s
):
    """Lightning's own half an hour would end the ranks that wait, before the one that hangs."""
    made = []
    monkeypatch.setattr(LuffyCLI, "_run_subcommand", lambda cli, name: made.append(cli.trainer))
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--config", "conf/hardware/cpu_two_ranks.yaml",
        "--data.engine.deadline_s", deadline, "--run_dir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert made[0].strategy._timeout.total_seconds() == expected_s


def test_it_is_the_timeout_with_which_lightning_makes_the_group(monkeypatch):
    """Its name is Lightning's own."""
    strategy, given = ModelParallelStrategy(1, 1), {}
    strategy._timeout = group_timeout(7200.0)
    strategy.accelerator, strategy.parallel_devices = CPUAccelerator(), [torch.device("cpu")]
    strategy.cluster_environment = LightningEnvironment()
    monkeypatch.setattr(
        model_parallel, "_init_dist_connection", lambda *args, **more: given.update(more)
    )
    strategy._setup_distributed()
    assert given["timeout"].total_seconds() == 7800
