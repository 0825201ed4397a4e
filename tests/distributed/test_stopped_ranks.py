"""Two sharded ranks: asked to stop, then killed while they save; the run that was neither."""

import shutil
import signal
import subprocess
import time

import pytest
from faults.kill_runs import left_running
from recipes.small_runs import SMALL
from same_run import differences

from luffy_pl.run_dir.checkpoints import newest, read_manifest

pytestmark = pytest.mark.slow

SHARED_ENGINE = [
    "--config", "conf/quickstart.yaml", "--config", "conf/hardware/cpu_two_ranks.yaml", *SMALL,
    "--data.engine.kind", "vllm", "--data.engine.tensor_parallel_size", "2",
    # One rank may need more rounds than the other.
    "--data.rollout.refill_tries", "3",
]  # fmt: skip
RUN = [
    "--config", "conf/quickstart.yaml", "--config", "conf/recipe/relift.yaml",
    "--config", "conf/hardware/cpu_two_ranks.yaml", *SMALL,
    "--trainer.strategy.init_args.save_distributed_checkpoint", "true",
    # Layers are cut between the ranks, the other weights sharded over them.
    "--trainer.strategy.init_args.data_parallel_size", "1",
    "--trainer.strategy.init_args.tensor_parallel_size", "2",
    "--data.rollout.imitation_buffer", "20",
    # A teacher that a checkpoint holds beside the policy.
    "--model.objective.divergence", "{beta: 0.3, with_reward: true, model: average}",
    "--model.frozen.average", "{weights: ema, rate: 0.5}",
    "--data.rollout.num_phases", "4",
    "--checkpoint.every_n_phases", "3",
]  # fmt: skip

AHEAD = [
    "--config", "conf/quickstart.yaml",
    "--config", "conf/recipe/truncated_importance_sampling.yaml",
    "--config", "conf/hardware/cpu_two_ranks.yaml", "--config", "conf/hardware/one_step_off.yaml",
    "--config", "conf/hardware/lora.yaml", "--model.optimizer.lr", "0.005", *SMALL,
    # Two models that follow the adapters, each in its way.
    "--model.frozen", "{copied: {weights: copy, every_n_phases: 2}, average: {weights: ema}}",
    "--model.objective.distillation", "{model: copied}",
    "--model.objective.kl", "{coef: 0.05, model: average}",
    "--checkpoint.every_n_phases", "1",
]  # fmt: skip


def stopped(start, run_dir, *args, phase, timeout):
    """The checkpoint of a run whose first rank alone got SIGTERM when `phase` was sampled."""
    process = start("fit", *args, "--run_dir", run_dir, stderr=subprocess.PIPE)
    while not (run_dir / "rollouts" / f"phase-{phase:06}.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, said = process.wait(timeout), process.stderr.read()
    assert code == 143, said
    assert left_running(process.pid) == 0
    saved, _ = newest(run_dir / "checkpoints")
    assert f"phase {saved.phase} is saved; continue with:" in said
    return saved


@pytest.mark.case(43, 44)
@pytest.mark.timeout(3600)
def test_stopped_then_killed_in_a_save_is_the_run_that_was_not(luffy_pl, start, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = luffy_pl("fit", *RUN, "--run_dir", whole, timeout=1200, ranks=2)
    assert done.returncode == 0, done.stderr[-2000:]

    # Nothing would be saved before phase 3. Lightning starts the second rank of these two.
    saved = stopped(start, cut, *RUN, phase=1, timeout=1200)
    assert saved.phase in (1, 2)
    manifest = read_manifest(saved.path)
    assert manifest["world_size"] == 2
    assert {f"state.ckpt/__{rank}_0.distcp" for rank in (0, 1)} <= manifest["files"].keys()

    # Before the manifest of phase 3, when all shards are written.
    fault = {"LUFFY_FAULT": "die_in_save@file=1"}
    killed = start("fit", "--resume", "--run_dir", cut, env=fault)
    assert killed.wait(1200) == -signal.SIGKILL
    assert left_running(killed.pid) == 0
    assert (cut / "checkpoints" / ".partial-phase-000003").is_dir()
    assert newest(cut / "checkpoints") == (saved, [])

    resumed = luffy_pl("fit", "--resume", "--run_dir", cut, timeout=1200, ranks=2)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differences(whole, cut) == []


@pytest.mark.long
def test_ranks_that_share_an_engine_stop_together(start, tmp_path):
    stopped(start, tmp_path, *SHARED_ENGINE, phase=2, timeout=60)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_adapters_and_what_follows_them_continue_where_phases_overlap(luffy_pl, tmp_path):
    """A resumed run samples its first phase again: so does one that is extended at that phase."""

    def fit(name, num_phases, *more):
        phases = ["--data.rollout.num_phases", num_phases]
        done = luffy_pl("fit", *AHEAD, *phases, "--run_dir", tmp_path / name, *more, ranks=2)
        assert done.returncode == 0, done.stderr[-2000:]

    resumed = ["--resume", "true"]
    fit("extended", 2)
    fit("extended", 3, *resumed)
    fit("cut", 3)
    # As a crash in phase 3 leaves it.
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "phase-000003")
    fit("cut", 3, *resumed)
    assert differences(tmp_path / "extended", tmp_path / "cut") == []
