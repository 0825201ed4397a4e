"""Starting vLLM in the trainer's process: on its device, and without changes for all else there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist

from luffy_pl.policy.flops import cached_numbers
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.process.ranks import group_timeout
from luffy_pl.rollout.cpu_reload import reload_directly
from luffy_pl.rollout.engine import CPU_BLOCK_TOKENS, EngineConfig, cpu_cache_tokens
from luffy_pl.rollout.vllm_defects import mend_loading, share_classes
from luffy_pl.rollout.vllm_limits import caches_prefixes, check_computed, language_config
from luffy_pl.rollout.vllm_quick import name_callers_quickly, start_quickly

if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from vllm import LLM

SETTINGS = {
    # In-process: weights are handed over as tensors, and no child can be orphaned.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def start_llm(model_path: str, config: EngineConfig) -> LLM:
    """An engine core in this process, loopback only, quiet, without a tokenizer."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    arguments, variables = placement(config)
    if not torch.cuda.is_available():
        model = language_config(model_path, remote_code=config.remote_code)
        check_computed(model, dtype=config.dtype)
        arguments["enable_prefix_caching"] = caches_prefixes(model)
        arguments["kv_cache_memory_bytes"] = cache_bytes(model, config)
    name_callers_quickly()
    from vllm import LLM

    mend_loading()
    if not torch.cuda.is_available():
        start_quickly()
    with environment(variables), torch_settings_kept():
        llm = LLM(
            model_path,
            skip_tokenizer_init=True,
            dtype=config.dtype,
            max_model_len=config.max_model_len,
            enforce_eager=config.enforce_eager,
            # After temperature: the raw ones are not of the distribution that is sampled.
            logprobs_mode="processed_logprobs",
            use_tqdm_on_load=False,
            load_format="safetensors",
            tensor_parallel_size=config.tensor_parallel_size,
            **code_arguments(config.remote_code),
            **arguments,
        )
    share_classes(llm)
    if not torch.cuda.is_available():
        reload_directly(llm)
    return llm


def cache_bytes(model: PretrainedConfig, config: EngineConfig) -> int:
    """Bytes of the key-value cache on a CPU, all of which vLLM writes to when it starts.

    Ranks that share an engine compute more sequences and hold fewer heads, in proportion.
    """
    most, tokens = config.cpu_kv_cache_gib * 2**30, cpu_cache_tokens(config.max_model_len)
    numbers = cached_numbers(model)
    if tokens is None or not numbers or not caches_prefixes(model):
        return most
    return min(most, tokens * numbers * getattr(torch, config.dtype).itemsize)


def placement(config: EngineConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of vLLM, and variables it reads while it starts, for the device of this rank."""
    size, has_gpu = config.tensor_parallel_size, torch.cuda.is_available()
    # A prompt that is split between two steps draws a token and takes the draw back, which the
    # generator of a seeded request cannot do on a CPU: vLLM dies.
    # Answers to one prompt share its whole blocks, and most prompts are shorter than the usual 128.
    arguments: dict[str, Any] = {"enable_chunked_prefill": False, "block_size": CPU_BLOCK_TOKENS}
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if has_gpu:
        devices, place = engine_devices(size)
        arguments = {
            "enable_prefix_caching": True,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "enable_sleep_mode": config.sleep_level > 0,
            "device_ids": devices,
        }
    if not dist.is_initialized() or not (has_gpu or size > 1):
        return arguments, {}
    # Every trainer rank already is a process: an engine joins it instead of forking. vLLM reads its
    # place from variables that Lightning's own launcher and SLURM do not set.
    arguments["distributed_executor_backend"] = "external_launcher"
    timeout_s = int(group_timeout(config.deadline_s).total_seconds())
    arguments |= {
        "distributed_timeout_seconds": timeout_s,
        "cpu_distributed_timeout_seconds": timeout_s,
    }
    return arguments, {"RANK": str(dist.get_rank()), "LOCAL_RANK": str(place)}


def engine_devices(size: int) -> tuple[list[int], int]:
    """Torch's numbers of the GPUs that hold this rank's engine together, and the place of its own.

    Lightning has made the GPU of `trainer.devices` the current one. vLLM takes the numbers as
    `device_ids`, and as LOCAL_RANK the place among them: without them it would take GPU LOCAL_RANK,
    or 0.
    """
    own = torch.cuda.current_device()
    if size == 1:
        return [own], 0
    found: list[int] = [own] * dist.get_world_size()
    dist.all_gather_object(found, own)
    first = dist.get_rank() // size * size
    of_engine = found[first : first + size]
    if len(set(of_engine)) < size:  # on several nodes, where each counts from 0
        return [own], 0
    return of_engine, dist.get_rank() - first


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of the process for a while: Lightning reads LOCAL_RANK at any time."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def torch_settings_kept() -> Iterator[None]:
    """What vLLM changes of torch for the whole process belongs to the trainer.

    On a GPU it sets one thread, with which an offloaded optimizer would step, and on a CPU it
    replaces the function that sets threads by one without effect.
    """
    num_threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
    precision = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(num_threads)
        torch.set_float32_matmul_precision(precision)


@contextmanager
def process_group_kept() -> Iterator[None]:
    """VLLM destroys the default process group when it ends, which may be the trainer's."""
    destroy = dist.destroy_process_group

    def destroy_others(group: dist.ProcessGroup | None = None) -> None:
        if group is not None:
            destroy(group)

    dist.destroy_process_group = destroy_others
    try:
        yield
    finally:
        dist.destroy_process_group = destroy
