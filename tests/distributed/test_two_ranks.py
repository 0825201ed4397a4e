"""FSDP2 on two gloo ranks, one engine each: the run of one rank, and a checkpoint for both."""

import json
import os
import subprocess
import sys

import pytest
import torch
from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES
from transformers import AutoModelForCausalLM

from luffy_pl.run_dir.read import read_lines, read_metrics

pytestmark = pytest.mark.slow

# The base solves two thirds of the last ones, and nothing else.
PROBLEMS = {"heldout": 9, "longer": 5, "shorter": 96}
BENCHMARKS = [
    "--data.benchmarks",
    json.dumps([
        {"name": name, "source": {"path": f"bundled:{name}.jsonl", "limit": limit},
         "out_of_distribution": name != "heldout"}
        for name, limit in PROBLEMS.items()
    ]),
]  # fmt: skip
SHORT = [
    "--config", "conf/quickstart.yaml", *BENCHMARKS,
    "--data.rollout.num_phases", "3",
    "--data.rollout.prompts_per_phase", "8",
    "--evaluation.every_n_phases", "null",
    "--evaluation.before_training", "false",
    # Micro-batches of a few rows, so that the ranks have different numbers of them.
    "--model.optimizer.micro_batch_tokens", "256",
    "--data.train.max_prompt_tokens", "48",
    "--expert.every_n_phases", "1",
]  # fmt: skip
EVERY_LOSS = [
    *SHORT,
    # What a loss may sum over rows, ranks and the vocabulary, each in its own way.
    "--model.objective.on_policy.ratio", "sequence",
    "--model.objective.on_policy.gate", "{kind: soft}",
    "--model.objective.off_policy.behaviour", "mixture",
    "--model.objective.off_policy.rare_exponent", "0.5",
    "--model.objective.divergence", "{beta: 0.3, with_reward: true, model: average}",
    # A teacher that stands in the checkpoint, and that an evaluation does not have.
    "--model.frozen.average", "{weights: ema, rate: 0.5}",
    "--data.advantage.kind", "batch_std",
]  # fmt: skip
TWO_RANKS = ["--config", "conf/hardware/cpu_two_ranks.yaml"]
CUT_LAYERS = [
    *TWO_RANKS, "--trainer.strategy.init_args.data_parallel_size", "1",
    "--trainer.strategy.init_args.tensor_parallel_size", "2",
]  # fmt: skip
OFFLOAD = [
    "--config", "conf/hardware/offload.yaml",
    "--trainer.strategy.init_args.process_group_backend", "gloo",
]  # fmt: skip
SHARDS = ["--trainer.strategy.init_args.save_distributed_checkpoint", "true"]
SAME = (
    "actor/on_pg_loss",
    "actor/divergence_loss",
    "critic/advantages/mean",
    "actor/off_pg_loss",
    "actor/off_policy_prob",
    "actor/grad_norm",
    "entropy/rollout_nats",
    "entropy/expert_nats",
    "critic/rewards/mean",
    "response_length/mean",
    "expert/nll_nats",
    "expert/probability_hist/0.9",
    "expert/grad_norm_share",
    "expert/grad_cosine",
    "ledger/generated_tokens",
    "ledger/trained_given_tokens",
    "ledger/optimizer_steps",
    "ledger/model_flops",
)


def metrics(run_dir):
    return read_metrics(run_dir / "metrics.jsonl")[0]


@pytest.fixture(scope="module", params=["hf", pytest.param("vllm", marks=pytest.mark.long)])
def runs(request, luffy_pl, work_dir, tmp_path_factory):
    """The same three phases on one rank and on two, which torchrun starts."""
    folder = tmp_path_factory.mktemp("ranks")
    settings = [*EVERY_LOSS, "--data.engine.kind", request.param]
    one = luffy_pl("fit", *settings, "--run_dir", folder / "one")
    assert one.returncode == 0, one.stderr[-2000:]
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "luffy_pl.cli",
    ]  # fmt: skip
    two = subprocess.run(
        [*torchrun, "fit", *settings, *TWO_RANKS, "--run_dir", folder / "two"], cwd=work_dir(),
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr[-2000:]
    return folder


def assert_same(found, wanted):
    """What three phases measured, and that each sync arrived whole."""
    found, wanted = metrics(found), metrics(wanted)
    for phase in (1, 2, 3):
        for name in SAME:
            assert found[phase][name] == pytest.approx(wanted[phase][name], abs=1e-5), (phase, name)
    gaps = [row["sync/logprob_gap_nats"] for row in found.values()]
    assert len(gaps) == 4
    assert max(gaps) < 1e-4


def assert_same_model(command_line, found, wanted):
    """What is exported of two runs."""
    models = []
    for run_dir in (found, wanted):
        out = run_dir.with_name(f"{run_dir.name}_exported")
        done = command_line("export", run_dir, "--out", out)
        assert done.returncode == 0, done.stderr
        models.append(AutoModelForCausalLM.from_pretrained(out).state_dict())
    torch.testing.assert_close(*models, rtol=0, atol=1e-5)


def test_two_ranks_make_the_run_of_one(runs):
    assert_same(runs / "two", runs / "one")


@pytest.mark.parametrize("runs", ["hf"], indirect=True)
def test_ranks_that_cut_layers_make_the_same_run(runs, luffy_pl, command_line):
    """With weights on the host, which on a CPU is where they are; the path is that of a GPU."""
    settings = [*EVERY_LOSS, "--data.engine.kind", "hf"]
    cut = [*CUT_LAYERS, *SHARDS, *OFFLOAD]
    done = luffy_pl("fit", *settings, *cut, "--run_dir", runs / "cut", ranks=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(runs / "cut", runs / "one")
    assert (runs / "cut" / "checkpoints" / "last.ckpt").is_dir()
    assert_same_model(command_line, runs / "cut", runs / "one")


@pytest.mark.long
@pytest.mark.parametrize("runs", ["vllm"], indirect=True)
def test_ranks_that_share_an_engine_make_the_same_run(runs, luffy_pl):
    done = luffy_pl(
        "fit", *EVERY_LOSS, *TWO_RANKS, "--data.engine.tensor_parallel_size", 2,
        "--run_dir", runs / "shared", ranks=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(runs / "shared", runs / "two")
    tables = [read_lines(runs / name / "evaluation.jsonl") for name in ("two", "shared")]
    assert tables[0] == tables[1] != []


def test_a_checkpoint_of_two_ranks_loads_on_one(runs, luffy_pl):
    """And gives the accuracies that two ranks measure from it, without its frozen model."""
    checkpoint = runs / "two" / "checkpoints" / "last.ckpt"
    for name, extra, ranks in (("one_of_two", [], 1), ("two_of_two", TWO_RANKS, 2)):
        done = luffy_pl(
            "validate", "--config", "conf/quickstart.yaml", *extra, *BENCHMARKS,
            "--ckpt_path", checkpoint, "--data.engine.kind", "hf", "--run_dir", runs / name,
            ranks=ranks,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read_lines(runs / name / "validate.jsonl") for name in ("one_of_two", "two_of_two"))
    assert [row["benchmark"] for row in one] == ["heldout", "longer", "shorter", "average_ood"]
    assert one == two
    assert 0 < one[2]["avg"] < 1


def test_two_ranks_continue_what_two_began_and_one_finishes_it(luffy_pl, tmp_path):
    """Each rank keeps its own answers, and any number of ranks reads all of them."""
    settings = [
        "--config", "conf/quickstart.yaml", "--data.engine.kind", "hf",
        "--data.answers_per_chunk", "40", "--data.benchmarks",
        '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", "limit": 41},'
        ' "samples_per_problem": 4, "temperature": 1.5}]',
    ]  # fmt: skip
    outcomes = []
    resumed = ["--resume", "true"]
    for extra, ranks in ((TWO_RANKS, 2), ([*TWO_RANKS, *resumed], 2), (resumed, 1)):
        done = luffy_pl("validate", *settings, *extra, "--run_dir", tmp_path, ranks=ranks)
        assert done.returncode == 0, done.stderr[-2000:]
        outcomes.append((done.stdout, (tmp_path / "results.json").read_text()))
        files = [tmp_path / "validate" / "answers" / f"b-{rank}.jsonl" for rank in (0, 1)]
        assert sum(len(read_lines(file)) for file in files) == 41 * 4
        # As if both had been killed, the second in the midst of a problem.
        for file, num_lines in zip(files, (80, 30), strict=True):
            lines = file.read_text().split("\n")[:-1]
            file.write_text("\n".join(lines[:num_lines]) + "\n")
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.long
def test_adapters_are_the_same_on_two_ranks(luffy_pl, command_line, tmp_path):
    """Also in what is exported, from a file and from shards."""
    lora = ["--config", "conf/hardware/lora.yaml", "--model.optimizer.lr", "0.005"]
    settings = [*EVERY_LOSS, *lora, *SMALL]
    one = command_line("fit", *settings, "--run_dir", tmp_path / "one")
    assert one.returncode == 0, one.stderr[-2000:]
    two = luffy_pl("fit", *settings, *TWO_RANKS, *SHARDS, "--run_dir", tmp_path / "two", ranks=2)
    assert two.returncode == 0, two.stderr[-2000:]
    assert_same(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "two" / "checkpoints" / "last.ckpt").is_dir()
    assert_same_model(command_line, tmp_path / "two", tmp_path / "one")


WITH_MEMORY = {
    "exgrpo": EXGRPO,
    "relift": ["--data.rollout.imitation_buffer", "10"],
    "kl_in_reward": SOLVED_SOMETIMES,
    "ghpo": ["--data.rollout.guidance.share", "{levels: null, per_prompt: {start: 0.5}}"],
    "sdpo": SOLVED_SOMETIMES,
}


@pytest.mark.parametrize(
    "recipe",
    [
        "exgrpo",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("relift", "kl_in_reward", "ghpo", "sdpo")
        ),
    ],
)
def test_what_phases_remember_is_the_same_on_two_ranks(luffy_pl, command_line, tmp_path, recipe):
    settings = [
        *SHORT, "--config", f"conf/recipe/{recipe}.yaml", *SMALL, *WITH_MEMORY[recipe],
    ]  # fmt: skip
    one = command_line("fit", *settings, "--run_dir", tmp_path / "one")
    assert one.returncode == 0, one.stderr[-2000:]
    two = luffy_pl("fit", *settings, *TWO_RANKS, "--run_dir", tmp_path / "two", ranks=2)
    assert two.returncode == 0, two.stderr[-2000:]
    found, wanted = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    for phase in (1, 2, 3):
        for name in ("actor/grad_norm", "response_length/mean", "critic/rewards/mean"):
            assert found[phase][name] == pytest.approx(wanted[phase][name], rel=1e-4), (phase, name)
