"""Which GPU an engine takes, by vLLM's own functions, and what it leaves in the process.

No GPU is needed.
"""

import os

import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed as dist

from luffy_pl.process.ranks import group_timeout
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.vllm_start import process_group_kept, start_llm


class Llm:
    """In place of vLLM's: notes what it is asked for, and does what an engine does to a process."""

    def __init__(self, model, **arguments):
        type(self).arguments, type(self).environment = arguments, dict(os.environ)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_num_threads = lambda number: None
        torch.set_float32_matmul_precision("medium")
        if model == "broken":
            raise RuntimeError("no such model")


@pytest.fixture
def on_ranks(monkeypatch, vllm):
    """Be one rank of a run on GPUs with these numbers, as Lightning has started it."""
    monkeypatch.setattr(vllm, "LLM", Llm)

    def be(rank, devices, *, starts=LightningEnvironment):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: devices[rank])
        monkeypatch.setattr(dist, "is_initialized", lambda: len(devices) > 1)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: len(devices))
        monkeypatch.setattr(
            dist, "all_gather_object", lambda found, own: found.__setitem__(slice(None), devices)
        )
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        strategy = ModelParallelStrategy(len(devices), 1)
        strategy.cluster_environment = starts()
        strategy.parallel_devices = [torch.device("cuda", number) for number in devices]
        return strategy

    return be


@pytest.fixture
def gpu_of_engine(monkeypatch):
    """The number that torch has for the GPU of vLLM's worker, as its init_device would find it."""
    from vllm.engine import arg_utils
    from vllm.platforms import interface
    from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher

    class Cuda(interface.Platform):
        device_control_env_var = "CUDA_VISIBLE_DEVICES"

    monkeypatch.setattr(arg_utils, "current_platform", Cuda)

    def find():
        backend = Llm.arguments.get("distributed_executor_backend")
        args = arg_utils.EngineArgs(
            "model",
            device_ids=Llm.arguments.get("device_ids"),
            distributed_executor_backend=backend,
        )
        monkeypatch.setattr(interface, "_assigned_physical_gpu_ids", args._resolve_device_ids())
        local_rank = 0
        if backend == "external_launcher":
            with monkeypatch.context() as inside:
                for name, value in Llm.environment.items():
                    inside.setenv(name, value)
                _, _, local_rank = ExecutorWithExternalLauncher._distributed_args(None)
        return Cuda.logical_device_id_to_visible_device_id(local_rank)

    return find


@pytest.mark.parametrize("visible", [None, "6,7,0,1,2,3,4,5"])
@pytest.mark.parametrize(
    ("devices", "size"), [([1], 1), ([4, 5, 6, 7], 1), ([4, 5, 6, 7], 2), ([1, 0], 1), ([1, 0], 2)]
)
def test_the_engine_is_on_its_ranks_gpu_and_lightning_stays_on_it(
    on_ranks, gpu_of_engine, monkeypatch, devices, size, visible
):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for rank, number in enumerate(devices):
        strategy = on_ranks(rank, devices)
        start_llm("model", EngineConfig(kind="vllm", tensor_parallel_size=size))
        assert gpu_of_engine() == number
        assert strategy.root_device == torch.device("cuda", number)


def test_gpus_of_one_engine_are_numbered_within_it(on_ranks):
    """vLLM asks which of them reach each other by their places in the engine."""
    on_ranks(3, [4, 5, 6, 7])
    start_llm("model", EngineConfig(kind="vllm", tensor_parallel_size=2))
    assert Llm.arguments["device_ids"] == [6, 7]
    assert (Llm.environment["RANK"], Llm.environment["LOCAL_RANK"]) == ("3", "1")


def test_an_engine_over_two_nodes_has_one_gpu_of_this_one(on_ranks, gpu_of_engine):
    on_ranks(1, [2, 2])
    start_llm("model", EngineConfig(kind="vllm", tensor_parallel_size=2))
    assert gpu_of_engine() == 2


@pytest.mark.parametrize("model", ["model", "broken"])
@pytest.mark.parametrize("given", [{"LOCAL_RANK": "3", "RANK": "11"}, {}])
def test_variables_of_the_launcher_stay(on_ranks, monkeypatch, model, given):
    """Those of torchrun, or none, where SLURM has others."""
    on_ranks(3, [0, 1, 2, 3], starts=TorchElasticEnvironment)
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
        if name in given:
            monkeypatch.setenv(name, given[name])
    with pytest.raises(RuntimeError) if model == "broken" else process_group_kept():
        start_llm(model, EngineConfig(kind="vllm"))
    assert Llm.environment["LOCAL_RANK"] == "0"
    left = {name: os.environ.get(name) for name in ("LOCAL_RANK", "RANK")}
    assert left == {"LOCAL_RANK": None, "RANK": None, **given}


@pytest.mark.parametrize("model", ["model", "broken"])
def test_settings_of_torch_stay(on_ranks, model):
    """An offloaded optimizer steps with all threads."""
    on_ranks(0, [0])
    torch.set_float32_matmul_precision("highest")
    before = torch.get_num_threads(), torch.set_num_threads, torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError) if model == "broken" else process_group_kept():
        start_llm(model, EngineConfig(kind="vllm"))
    assert before == (
        torch.get_num_threads(), torch.set_num_threads, torch.get_float32_matmul_precision()
    )  # fmt: skip


def test_ranks_of_an_engine_wait_longer_than_its_deadline(on_ranks):
    on_ranks(0, [0, 1])
    start_llm("model", EngineConfig(kind="vllm", tensor_parallel_size=2, deadline_s=7200.0))
    for name in ("distributed_timeout_seconds", "cpu_distributed_timeout_seconds"):
        assert Llm.arguments[name] == group_timeout(7200.0).total_seconds() > 7200


def test_the_trainers_process_group_outlives_an_engine():
    """vLLM destroys its own groups, and then the default one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        own = dist.new_group([0])
        with process_group_kept():
            dist.destroy_process_group(own)
            dist.destroy_process_group()
        assert dist.is_initialized()
        with pytest.raises(ValueError, match="Invalid process group"):
            dist.destroy_process_group(own)
    finally:
        dist.destroy_process_group()
    assert not dist.is_initialized()
