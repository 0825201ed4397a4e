"""Two torchrun launchers of two ranks each, a copy of the weights for either: one rank's run."""

import os
import subprocess
import sys

import pytest
from forks import free_port
from recipes.small_runs import SMALL

from luffy_pl.run_dir.read import read_metrics

pytestmark = pytest.mark.long

SHORT = [
    "--config", "conf/quickstart.yaml", *SMALL,
    "--data.rollout.num_phases", "2", "--evaluation.before_training", "false",
    "--evaluation.every_n_phases", "null", "--model.optimizer.micro_batch_tokens", "256",
    "--data.train.max_prompt_tokens", "48",
]  # fmt: skip
# What two nodes of eight GPUs are told, for two of two CPU processes.
TWO_NODES = [
    "--config", "conf/hardware/cpu_two_ranks.yaml", "--config", "conf/hardware/two_nodes.yaml",
    "--trainer.devices", "2", "--trainer.strategy.init_args.data_parallel_size", "4",
    "--trainer.strategy.init_args.save_distributed_checkpoint", "false",
]  # fmt: skip
SAME = (
    "actor/on_pg_loss",
    "actor/off_pg_loss",
    "actor/grad_norm",
    "critic/rewards/mean",
    "response_length/mean",
)


def test_two_nodes_of_two_ranks_give_the_losses_of_one(command_line, work_dir, tmp_path):
    one = command_line("fit", *SHORT, "--run_dir", tmp_path / "one")
    assert one.returncode == 0, one.stderr[-2000:]
    port = free_port()
    nodes = [start_node(rank, port, tmp_path / "four", work_dir()) for rank in (0, 1)]
    for node in nodes:
        output, _ = node.communicate(timeout=840)
        assert node.returncode == 0, output[-3000:]
    wanted, found = (read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("one", "four"))
    for phase in (1, 2):
        for name in SAME:
            assert found[phase][name] == pytest.approx(wanted[phase][name], abs=1e-5), (phase, name)
    assert found[2]["sync/logprob_gap_nats"] < 1e-4


def start_node(rank, port, run_dir, cwd):
    """`torchrun` as on a node of its own, meeting the other on this machine."""
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2",
        "--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", str(port),
        "-m", "luffy_pl.cli",
    ]  # fmt: skip
    return subprocess.Popen(
        [*torchrun, "fit", *SHORT, *TWO_NODES, "--run_dir", str(run_dir)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
