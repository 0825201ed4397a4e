"""What this package asks of vLLM is there in the installed one, also where only a GPU would run it.

The CUDA wheel and that for CPUs hold the same Python code. What cannot be imported without a GPU is
read as text.
"""

import ast
import dataclasses
import importlib.util
import inspect
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from transformers import PretrainedConfig

from luffy_pl import rollout
from luffy_pl.rollout import vllm_start
from luffy_pl.rollout.engine import EngineConfig, Sampling
from luffy_pl.rollout.vllm_engine import VllmEngine
from luffy_pl.rollout.vllm_start import placement, start_llm

pytestmark = pytest.mark.usefixtures("vllm")

FOUND = importlib.util.find_spec("vllm")
VLLM = Path(FOUND.submodule_search_locations[0] if FOUND else "")
OURS = Path(next(iter(rollout.__path__)))
CONTROL = {"health", "inference/v1/generate"}


def trees(folder):
    return [ast.parse(file.read_text()) for file in sorted(folder.rglob("*.py"))]


def first_strings(folder, attributes):
    """The first argument of each call `x.attribute("text", ...)`."""
    return {
        node.args[0].value
        for tree in trees(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in attributes
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def parameters_of(path, name):
    """Those of each function of this name in a file of vLLM, by class."""
    tree = ast.parse((VLLM / path).read_text())
    return [
        {arg.arg for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_llm_knows_every_argument(monkeypatch, has_gpu, size):
    import vllm
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    asked = {}
    monkeypatch.setattr(vllm, "LLM", lambda model, **arguments: asked.update(arguments) or Mock())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    dist = torch.distributed
    monkeypatch.setattr(dist, "is_initialized", lambda: size > 1)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: size)
    monkeypatch.setattr(dist, "all_gather_object", lambda found, own: found.append(own))
    monkeypatch.setattr(vllm_start, "language_config", lambda path, remote_code: PretrainedConfig())
    config = EngineConfig(kind="vllm", tensor_parallel_size=size, remote_code="a" * 40)
    start_llm("model", config)
    known = set(inspect.signature(LLM).parameters) | {
        field.name for field in dataclasses.fields(EngineArgs)
    }
    assert set(asked) <= known
    assert set(placement(config)[0]) <= set(asked)


def test_sampling_params_know_every_field():
    engine = VllmEngine.__new__(VllmEngine)
    engine.stop_token_ids = [1]
    made = engine._params(Sampling(logprobs=True), seed=3, max_tokens=5)
    assert (made.seed, made.max_tokens, made.logprobs, made.stop_token_ids) == (3, 5, 0, [1])


@pytest.mark.parametrize("path", ["gpu/model_runner.py", "gpu_model_runner.py"])
def test_every_runner_takes_an_iterator_and_a_path(path):
    """The first, newer, runs on a GPU; the second is the base of the one that runs on a CPU."""
    found = parameters_of(f"v1/worker/{path}", "reload_weights")
    assert found
    assert all({"weights_iterator", "weights_path"} <= one for one in found)


def test_weights_and_cache_wake_by_these_names():
    asked = {
        tag.value
        for tree in trees(OURS)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "tags"
        for tag in node.value.elts
    }
    assert asked == {"weights", "kv_cache"}
    pools = {
        call.value.value
        for tree in trees(VLLM / "v1" / "worker")
        for call in ast.walk(tree)
        if isinstance(call, ast.keyword)
        and call.arg == "tag"
        and isinstance(call.value, ast.Constant)
    }
    assert asked <= pools


def test_servers_have_every_route():
    asked = first_strings(OURS, {"everywhere"})
    assert len(asked) > 5
    routes = first_strings(VLLM / "entrypoints", {"get", "post"})
    assert {"/" + name.split("?")[0] for name in asked | CONTROL} <= routes


def test_a_server_says_whether_it_dropped_its_cache():
    source = (VLLM / "entrypoints/serve/dev/cache/api_router.py").read_text()
    assert '{"success": bool(success)}' in source


def test_the_client_of_a_transfer_has_what_vllm_calls():
    from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient

    from luffy_pl.rollout.nccl_transfer import PoolClient

    wanted = {
        name: inspect.signature(function)
        for name, function in vars(VLLMWeightSyncClient).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
    assert len(wanted) >= 4
    for name, signature in wanted.items():
        ours = inspect.signature(getattr(PoolClient, name))
        assert list(ours.parameters) == list(signature.parameters), name
