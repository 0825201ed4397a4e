"""Which engine, by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from luffy_pl.errors import EngineError
from luffy_pl.rollout.engine import EngineConfig, RolloutEngine
from luffy_pl.rollout.supervised import SupervisedEngine
from luffy_pl.rollout.tensor_parallel import TensorParallelEngine

STACKS = Path("logs") / "hang-engine.txt"


def start_supervised(
    model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int], run_dir: str | Path
) -> SupervisedEngine:
    """The engine of a run; where it stood when it hung is kept in the run's folder."""
    start = partial(start_engine, model_path, config, stop_token_ids=stop_token_ids)
    stacks = Path(run_dir) / STACKS
    return SupervisedEngine(start, deadline_s=config.deadline_s, stacks=stacks)


def start_engine(
    model_path: str, config: EngineConfig, *, stop_token_ids: Sequence[int]
) -> RolloutEngine:
    """The engine that `config.kind` names, its weights loaded from `model_path`."""
    if config.kind == "vllm_server":
        from luffy_pl.rollout.server_engine import VllmServerEngine

        return VllmServerEngine(config, stop_token_ids=stop_token_ids)
    has_vllm = find_spec("vllm") is not None
    size = config.tensor_parallel_size
    kind = config.kind if config.kind != "auto" else ("vllm" if has_vllm or size > 1 else "hf")
    if kind == "hf":
        from luffy_pl.rollout.hf_engine import HfEngine

        return HfEngine(model_path, config, stop_token_ids=stop_token_ids)
    if not has_vllm:
        raise EngineError(
            "data.engine.kind",
            "vLLM is not installed",
            value=config.kind,
            fix="install the cpu or gpu extra, or use data.engine.kind=hf",
        )
    from luffy_pl.rollout.vllm_engine import VllmEngine

    start = partial(VllmEngine, model_path, config, stop_token_ids=stop_token_ids)
    return start() if size == 1 else TensorParallelEngine(start, size=size)
