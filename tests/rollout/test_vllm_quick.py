"""vLLM starts without what an engine on a CPU can do without, and computes the same."""

import inspect
import subprocess
import sys

import pytest
import torch

from luffy_pl.rollout.vllm_quick import (
    count_plainly,
    inspect_here,
    module_of,
    name_callers_quickly,
    source_of_caller,
)


def test_a_caller_has_the_module_and_line_that_torch_finds(monkeypatch):
    from torch import library
    from torch._library import utils

    frame, find = sys._getframe(), utils.get_source
    assert module_of(frame) is inspect.getmodule(frame)
    assert source_of_caller(1) == find(1)
    monkeypatch.setattr(library, "inspect", inspect)
    monkeypatch.setattr(utils, "get_source", find)
    name_callers_quickly()
    monkeypatch.setattr(inspect, "getmodule", None)  # whoever asks for it fails
    own = library.Library("luffy_quick", "DEF")
    own.define("twice(Tensor x) -> Tensor")
    library.register_fake("luffy_quick::twice", torch.empty_like, lib=own)
    entry = torch._library.simple_registry.singleton.find("luffy_quick::twice")
    assert __file__ in entry.fake_impl.kernels[-1].source


def test_likelier_tokens_are_counted_without_compiling(vllm):
    from vllm.v1.sample import sampler
    from vllm.v1.sample.ops.logprobs import batched_count_greater_than as compiled

    count_plainly()
    logprob_NV = torch.randn(5, 27).round(decimals=1)
    own_N1 = logprob_NV[:, 3:4]
    found_N = sampler.batched_count_greater_than(logprob_NV, own_N1)
    assert sampler.batched_count_greater_than is not compiled
    assert found_N.tolist() == [sum(one >= row[3] for one in row) for row in logprob_NV.tolist()]


def test_a_model_is_looked_at_in_this_process(vllm, monkeypatch, tmp_path):
    from vllm import envs
    from vllm.model_executor.models import registry

    # An engine of this process would have fixed what is read from the environment.
    monkeypatch.setitem(vars(envs), "VLLM_CACHE_ROOT", str(tmp_path))
    monkeypatch.setattr(registry, "_run_in_subprocess", registry._run_in_subprocess)
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    inspect_here()
    found = registry._LazyRegisteredModel(
        module_name="vllm.model_executor.models.llama", class_name="LlamaForCausalLM"
    ).inspect_model_cls()
    assert found.architecture == "LlamaForCausalLM"
    assert list(tmp_path.rglob("*.json"))
