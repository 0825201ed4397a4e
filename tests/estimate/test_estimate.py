"""What a run needs, told from its configuration alone."""

import dataclasses
import json

import pytest
import torch
from estimate_plans import A_DEVICE, A_SHAPE, a_plan, bench_arguments

from luffy_pl.attention.packed import packing
from luffy_pl.attention.packing import pack
from luffy_pl.bench.workload import make_model
from luffy_pl.estimate.activations import saved_bytes_per_token
from luffy_pl.estimate.devices import GIB
from luffy_pl.estimate.duration import answer_lengths, decode_seconds, estimate_phase
from luffy_pl.estimate.memory import (
    HF_ROWS,
    HF_TOKENS,
    engine_parts,
    host_parts,
    machine_parts,
    peaks,
    token_cache,
    training_parts,
)
from luffy_pl.estimate.plan import read_shape, room_for_prompts
from luffy_pl.policy.architecture import LLAMA_8B, QWEN_1_5B, QWEN_7B
from luffy_pl.policy.lora import LoraConfig, add_adapters
from luffy_pl.policy.policy import Policy
from luffy_pl.rollout.hf_engine import BATCH_ROWS, BATCH_TOKENS

PAPER = ("estimate", "--config", "conf/luffy.yaml")


@pytest.mark.parametrize(
    ("config", "published"),
    [(QWEN_7B, 7_615_616_512), (QWEN_1_5B, 1_543_714_304), (LLAMA_8B, 8_030_261_248)],
)
def test_known_models_have_their_published_size(config, published):
    assert read_shape(config, compute_bytes=2).parameters == published


def test_a_small_model_on_one_gpu(command_line):
    done = command_line("estimate", "--config", "conf/gsm8k_qwen.yaml")
    assert done.returncode == 0, done.stderr
    assert "Qwen/Qwen2.5-0.5B-Instruct: 494.0 M parameters" in done.stdout
    assert done.stdout.count(" fits") == 2


def test_the_published_setting_fits(command_line):
    for device in ("a100-80g", "h100-80g"):
        done = command_line(*PAPER, "--device", device, "--json")
        found = json.loads(done.stdout)
        assert done.returncode == 0
        assert found["problems"] == []
        # float32 weights, gradients and two moments of 7.6 B parameters over 8 devices
        state = sum(found["training_bytes"][n] for n in ("weights", "gradients", "optimizer"))
        assert state == 16 * 7_615_616_512 / 8
        assert found["phase"]["rows"] == 128 * 8
        assert found["phase"]["sampled_tokens"] == 128 * 7 * 4096


def test_prompts_fit_into_the_window():
    assert room_for_prompts(None, 48) == room_for_prompts(99999, 48) == 1024
    assert room_for_prompts(96, 48) == 48
    assert room_for_prompts(96, 96) == 1


def test_what_does_not_fit_names_the_setting_that_helps(command_line):
    whole = (*PAPER, "--model.policy.activation_checkpointing", "false")
    done = command_line(*whole)
    assert done.returncode == 1
    assert "does not fit: training needs" in done.stdout
    assert "Fix: model.policy.activation_checkpointing=true" in done.stdout
    small = (*PAPER, "--trainer.devices", "2", "--trainer.strategy.init_args.data_parallel_size")
    done = command_line(*small, "2")
    assert "Fix: model.optimizer.micro_batch_tokens=9216" in done.stdout
    assert "Fix: data.engine.gpu_memory_utilization=0.46" in done.stdout
    done = command_line(
        *small, "2", "--model.optimizer.micro_batch_tokens", "9216",
        "--data.engine.gpu_memory_utilization", "0.46",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_model_that_is_not_here_is_one_line(command_line, tmp_path):
    path = ("estimate", "--config", "conf/quickstart.yaml", "--model.policy.path", str(tmp_path))
    done = command_line(*path)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "--config_json" in done.stderr
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps(QWEN_1_5B.to_dict()))
    done = command_line(*path, "--config_json", str(file))
    assert "1,543.7 M parameters" in done.stdout


def test_a_device_of_the_other_kind_is_refused(command_line):
    done = command_line(*PAPER, "--device", "cpu")
    assert done.returncode == 2
    assert "--device" in done.stderr


@pytest.mark.parametrize("lora", [None, LoraConfig(8), LoraConfig(8, target_modules=("q_proj",))])
def test_activations_are_those_that_autograd_keeps(lora):
    """Against a forward pass with numbers, of the very code that trains."""
    args = bench_arguments(vocab=50, hidden=64, layers=3)
    model = make_model(args)
    config = model.config
    if lora is not None:
        add_adapters(model, lora, seed=0)
    policy = Policy(model).train()
    weights = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor
        return tensor

    length = 301
    packed = pack(torch.ones(2, length + 1), torch.ones(2, length), [length + 1] * 2, [0, 0])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), packing(packed):
        policy.language_model.base_model(
            input_ids=torch.randint(50, (1, 2 * length)),
            attention_mask=torch.ones(1, 2 * length, dtype=torch.bool),
            position_ids=torch.arange(length).repeat(2)[None],
            use_cache=False,
        )
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / (2 * length)
    found = saved_bytes_per_token(config, dtype=torch.float32, lora=lora)
    assert found == pytest.approx(measured, rel=0.02)


def test_adapters_alone_have_gradients_and_moments(command_line):
    lora = ("--config", "conf/hardware/lora.yaml", "--json")
    found = json.loads(command_line(*PAPER, *lora).stdout)
    # Of 28 layers: q, o of 3584 and 3584; k, v of 3584 and 512; gate, up, down of 3584 and 18944
    wide = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
    adapters = 28 * 16 * wide
    assert (found["parameters"], found["adapters"]) == (7_615_616_512, adapters)
    size = found["training_bytes"]
    assert size["weights"] == 4 * (7_615_616_512 + adapters) / 8
    assert size["gradients"] == 4 * adapters / 8
    assert size["optimizer"] == 2 * 4 * adapters / 8
    shown = command_line(*PAPER, *lora[:2]).stdout
    assert "7,615.6 M parameters and 40.4 M in adapters" in shown
    refused = command_line(*PAPER, *lora, "--model.policy.lora.target_modules", "[qproj]")
    assert refused.returncode == 2
    assert "model.policy.lora.target_modules" in refused.stderr


def test_adapters_by_hand():
    # As below, and 60 numbers in adapters, which are float32 although the base is not.
    shape = dataclasses.replace(A_SHAPE, adapters=60)
    plan = a_plan(shards=2, weight_bytes=2)
    parts = training_parts(shape, plan)
    assert parts["weights"] == (1000 * 2 + 60 * 4) / 2
    assert parts["gradients"] == 60 * 4 / 2
    assert parts["optimizer"] == 2 * 60 * 4 / 2
    # 400, 2 layers of 330 and the gradient of 30 in bfloat16, that of 30 in float32
    assert parts["gathered weights"] == (400 + 2 * 330 + 30) * 2 + 30 * 4
    whole = training_parts(A_SHAPE, plan)
    # The head's gradient of 20 x 10, in float32 and in bfloat16
    assert whole["head"] - parts["head"] == 200 * (4 + 2)
    both = [
        estimate_phase(one, plan, A_DEVICE, response_tokens=10).train_s for one in (A_SHAPE, shape)
    ]
    assert both[1] / both[0] == pytest.approx(3 / 4)  # forward, again, and one backward of two


def test_parts_by_hand():
    # 1000 parameters of which 400 embed, 2 layers of 300; 4 bytes each, over 2 devices.
    parts = training_parts(A_SHAPE, a_plan(shards=2))
    assert parts["weights"] == parts["gradients"] == 2000
    assert parts["optimizer"] == 4000
    # 400 + 3 x 300 in bfloat16, one layer's gradient of 300 in float32
    assert parts["gathered weights"] == 1300 * 2 + 300 * 4
    # 100 tokens: 2 layers x 10 hidden x 2 bytes, half of 800 saved bytes, 2 x 40 wide x 2 bytes
    assert parts["activations"] == 100 * (40 + 400 + 160)
    assert "frozen models" not in parts
    engine = {"engine weights": 2000.0, "engine cache": 500.0}
    asleep = peaks(parts, engine, a_plan(sleeps=True))
    awake = peaks(parts, engine, a_plan(sleeps=False))
    assert awake["training"] - asleep["training"] == 2500
    assert asleep["generating"] == 2000 + 4000 + 2500
    elsewhere = peaks(parts, engine, a_plan(sleeps=False, engine_is_elsewhere=True))
    assert elsewhere["training"] == asleep["training"]
    assert elsewhere["generating"] == 2000 + 4000


def test_what_is_offloaded_is_on_the_host_of_a_gpu():
    plan = a_plan(shards=2, offloads=True)
    whole, offloaded = training_parts(A_SHAPE, a_plan(shards=2)), training_parts(A_SHAPE, plan)
    host = host_parts(A_SHAPE, plan)
    assert host == {"weights": 2000, "gradients": 2000, "optimizer": 4000, "frozen models": 0}
    assert offloaded == {name: size for name, size in whole.items() if name not in host}
    # One rank gathers as well: its weights come to the device layer by layer.
    assert "gathered weights" in training_parts(A_SHAPE, a_plan(offloads=True))
    on_a_cpu = training_parts(A_SHAPE, a_plan(shards=2, offloads=True, is_gpu=False))
    assert on_a_cpu["weights"] == 2000


def test_the_host_of_a_machine_by_hand():
    sharded = machine_parts(A_SHAPE, a_plan(shards=2))
    assert sharded == {"loading": 4000}  # 1000 numbers once, by the first rank
    assert machine_parts(A_SHAPE, a_plan()) == {"loading": 2 * 4000}
    # On each rank half of 1000 numbers, of gradients and of two moments; an engine of 2 bytes each
    kept = machine_parts(A_SHAPE, a_plan(shards=2, offloads=True, engine_is_kept=True))
    assert kept == {"loading": 4000, "kept": 2 * 8000, "sleeping": 2 * 2000}
    assert machine_parts(A_SHAPE, a_plan(is_gpu=False)) == {}


def test_offloading_keeps_the_sizes_of_a_strategy(command_line):
    overlays = ("eight_gpus", "cut_layers", "offload")
    files = [arg for name in overlays for arg in ("--config", f"conf/hardware/{name}.yaml")]
    plan = json.loads(command_line(*PAPER, *files, "--json").stdout)["plan"]
    assert (plan["shards"], plan["tensor_ranks"], plan["offloads"]) == (8, 2, True)


def test_one_gpu_is_advised_to_offload(command_line):
    one = ["--config", "conf/hardware/one_gpu.yaml"]
    done = command_line(*PAPER, *one)
    assert done.returncode == 1
    assert done.stdout.count("--config conf/hardware/offload.yaml") == 2
    fits = command_line(*PAPER, *one, "--config", "conf/hardware/offload.yaml")
    assert fits.returncode == 0, fits.stdout
    assert "kept                    113." in fits.stdout
    assert "loading                  28." in fits.stdout


def test_ranks_that_cut_layers_by_hand():
    whole, cut = (training_parts(A_SHAPE, a_plan(shards=2, tensor_ranks=n)) for n in (1, 2))
    assert cut["weights"] == whole["weights"]
    # 400 that embed and half of 3 x 300 in bfloat16, half of one layer's gradient in float32
    assert cut["gathered weights"] == 850 * 2 + 150 * 4
    # Of one layer, the others being recomputed, 100 tokens of the neighbour before either block.
    assert cut["activations"] - whole["activations"] == 2 * 100 * 10 * 2


def test_ranks_that_share_an_engine_by_hand():
    alone, shared = (
        engine_parts(A_SHAPE, a_plan(engine_ranks=ranks), A_DEVICE) for ranks in (1, 2)
    )
    assert alone["engine weights"] == 2 * shared["engine weights"] == 2000
    assert token_cache(A_SHAPE, a_plan(engine_ranks=2)) == 4  # of 8 bytes
    # 12 sequences at once, twice those of a rank: half the weights, 4 bytes of each of 25 tokens
    plan = a_plan(shards=2, engine_ranks=2)
    phase = estimate_phase(A_SHAPE, plan, A_DEVICE, response_tokens=10)
    compute_s = 12 * (2 * 600 + 4 * 20 * 25) / (2 * 0.4 * 1e6)
    assert phase.generate_s == pytest.approx(10 * max((1000 + 1200) / (0.6 * 1e6), compute_s))


@pytest.mark.parametrize(("row_tokens", "held"), [(25, 32768), (1000, 64 * 1000)])
def test_the_cache_of_transformers_by_hand(row_tokens, held):
    """64 rows, or as many more as have 32,768 tokens; 8 bytes for each."""
    assert (HF_ROWS, HF_TOKENS) == (BATCH_ROWS, BATCH_TOKENS)
    plan = a_plan(engine_kind="hf", row_tokens=row_tokens)
    assert engine_parts(A_SHAPE, plan, A_DEVICE)["engine cache"] == held * 8


def test_every_kind_of_recomputation_by_hand():
    full, part, none = (
        training_parts(A_SHAPE, a_plan(recomputes=which))["activations"]
        for which in (True, "selective", False)
    )
    assert none == 100 * (800 + 160)
    # of each token also 2 x 20 attention, 4 of keys and values, 2 layers x 2 x (10 + 40), 2 bytes
    assert part - full == 100 * (40 + 4 + 200) * 2


def test_replicas_share_fewer_devices(command_line):
    overlays = (
        "--config",
        "conf/hardware/eight_gpus.yaml",
        "--config",
        "conf/hardware/two_nodes.yaml",
    )
    done = command_line(*PAPER, *overlays, "--json")
    plan = json.loads(done.stdout)["plan"]
    assert (plan["ranks"], plan["shards"]) == (16, 8)


def test_seconds_by_hand():
    plan = a_plan(shards=2)
    phase = estimate_phase(A_SHAPE, plan, A_DEVICE, response_tokens=10)
    # 4 prompts: 12 rollouts and 4 traces of 10 tokens, prompts of 20
    assert (phase.rows, phase.sampled_tokens, phase.trained_tokens) == (16, 120, 480)
    # 2 x 600 parameters x 30 tokens + 4 x 20 x (30 x 31 / 2), 4 passes with recomputation
    forward = 2 * 600 * 30 + 4 * 20 * 465
    assert phase.train_s == pytest.approx(16 * forward * 4 / (2 * 0.4 * 1e6))
    # 6 sequences of one rank at once: 2000 bytes of weights and 6 x 25 x 8 of cache each step
    compute_s = 6 * (2 * 600 + 4 * 20 * 25) / (0.4 * 1e6)
    assert phase.generate_s == pytest.approx(10 * max((2000 + 1200) / (0.6 * 1e6), compute_s))
    assert A_DEVICE.memory < GIB


def test_rounds_after_a_failure_by_hand():
    plan = a_plan(shards=2, rounds_again=3, rows_again=1.5)
    phase = estimate_phase(A_SHAPE, plan, A_DEVICE, response_tokens=10)
    # three rounds of 4 prompts x 1.5 rows x 10 tokens; 3 rows at once on each of two engines
    assert phase.tokens_again == 3 * 60
    compute_s = 3 * (2 * 600 + 4 * 20 * 25) / (0.4 * 1e6)
    again_s = 3 * 10 * max((2000 + 3 * 25 * 8) / (0.6 * 1e6), compute_s)
    assert phase.again_s == pytest.approx(again_s)
    without = estimate_phase(A_SHAPE, a_plan(shards=2), A_DEVICE, response_tokens=10)
    assert dataclasses.replace(phase, tokens_again=0.0, again_s=0.0) == without


@pytest.mark.parametrize(
    ("recipe", "settings", "rounds", "rows", "sampled"),
    [
        ("luffy", (), 0, 0.0, 7),
        ("ghpo", (), 3, 8.0, 8),
        ("ghpo", ("--data.rollout.guidance.chance", "0.5"), 3, 4.0, 8),
        ("pope", (), 0, 0.0, 8),
        ("guide", ("--data.rollout.guidance.rows", "2"), 1, 2.0, 8),
        ("bread", (), 4, 4.0, 8),
    ],
)
def test_which_groups_are_sampled_again(command_line, recipe, settings, rounds, rows, sampled):
    """A beginning that waits for a failure is no given row at first."""
    files = ("--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml")
    done = command_line("estimate", *files, *settings, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    plan = found["plan"]
    assert (plan["rounds_again"], plan["rows_again"]) == (rounds, rows)
    assert plan["rollouts_per_prompt"] == sampled
    assert (found["phase"]["again_s"] > 0) == (rounds > 0)
    if settings:  # said once is said
        return
    table = command_line("estimate", *files).stdout
    assert ("groups that fail are sampled again: if all do" in table) == (rounds > 0)


def test_lengths_by_hand():
    assert answer_lengths(10, longest=10, count=3) == [10, 10, 10]
    # A mean of half the limit: even lengths, in the middle of each of four parts
    assert answer_lengths(4, longest=8, count=4) == pytest.approx([1, 3, 5, 7], abs=1e-3)
    many = answer_lengths(1000, longest=8192, count=5000)
    assert sum(many) / len(many) == pytest.approx(1000, rel=1e-3)
    assert many == sorted(many)
    assert many[-1] < 8192


def test_a_tail_by_hand():
    """Three answers of 2, 4 and 8 tokens, two at once; a step takes as many seconds as run."""
    seen = []

    def step_s(running, context):
        seen.append((running, context))
        return float(running)

    # 8 and 4 for four steps, 8 and 2 for two, 8 alone for two.
    found = decode_seconds([2, 4, 8], together=2, prompt=10, step_s=step_s)
    assert found == 4 * 2 + 2 * 2 + 2 * 1
    # The middle of each piece: 2 of both; 5 of one and 1 of the other; 7.
    assert seen == [(2, 12), (2, 13), (1, 17)]


def test_a_tail_takes_longer_than_answers_of_one_length(command_line):
    even, tail = (
        json.loads(command_line(*PAPER, "--json", *more).stdout)["phase"]["generate_s"]
        for more in (["--response_tokens", "8192"], ["--response_tokens", "4096"])
    )
    assert 0.5 * even < tail < even  # of half the length, one and all, at most half of it


def test_seconds_with_the_lengths_that_were_read_by_hand():
    plan = a_plan(shards=2, mean_prompt_tokens=10.0, mean_trace_tokens=5.0)
    phase = estimate_phase(A_SHAPE, plan, A_DEVICE, response_tokens=10)
    # 12 rollouts of 10 + 10 tokens, 4 traces of 10 + 5
    assert phase.trained_tokens == 12 * 20 + 4 * 15
    forward = 12 * (1200 * 20 + 80 * 210) + 4 * (1200 * 15 + 80 * 120)
    assert phase.train_s == pytest.approx(forward * 4 / (2 * 0.4 * 1e6))
    # 6 sequences of a rank at once: 10 + half of 10 tokens of context, 8 bytes each
    compute_s = 6 * (2 * 600 + 4 * 20 * 15) / (0.4 * 1e6)
    read_s = (2000 + 6 * 15 * 8) / (0.6 * 1e6)
    assert phase.generate_s == pytest.approx(10 * max(read_s, compute_s))
