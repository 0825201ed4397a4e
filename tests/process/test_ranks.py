"""What a section `trainer` says about processes."""

from types import SimpleNamespace

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.process.ranks import Ranks, count_ranks


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
