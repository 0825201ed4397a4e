"""`luffy-pl serve MODEL`: a vLLM server that a trainer can ask, and give weights to.

It becomes `vllm serve` with what the trainer relies on: tokens in, tokens out, log-probabilities at
the sampling temperature, and the routes that replace weights. Those know no password, and who
reaches them can have the server load any file: it listens on this machine alone unless told else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import torch

from luffy_pl.bundled import resolve
from luffy_pl.errors import EngineError
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.start import INSTALL_VLLM

ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",  # the routes that pause, replace weights and resume
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def main(argv: Sequence[str]) -> int:
    """Replace this process by the server."""
    args, more = parser().parse_known_args(argv)
    if find_spec("vllm") is None:
        raise EngineError("serve", "vLLM is not installed", fix=INSTALL_VLLM)
    os.environ.update({**ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": str(args.cpu_kv_cache_gib)})
    # The `vllm` program asks for the version of a distribution of that name, which vllm-cpu is not.
    module = [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server"]
    os.execv(sys.executable, [*module, *command(args, on_gpu=torch.cuda.is_available()), *more])


def parser() -> argparse.ArgumentParser:
    """What the trainer's `data.engine` must agree with, and where to listen."""
    made = argparse.ArgumentParser(
        prog="luffy-pl serve", epilog="Further options go to `vllm serve` as they are."
    )
    made.add_argument(
        "model", help="folder, hub name or bundled:NAME: model.policy.path of the run"
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on; see docs/scale.md")
    made.add_argument("--port", type=int, default=8000)
    made.add_argument("--dtype", default=EngineConfig.dtype, help="data.engine.dtype of the run")
    made.add_argument("--max-model-len", type=int, help="data.engine.max_model_len of the run")
    made.add_argument("--cpu-kv-cache-gib", type=int, default=EngineConfig.cpu_kv_cache_gib)
    return made


def command(args: argparse.Namespace, *, on_gpu: bool) -> list[str]:
    """Arguments of vLLM's server."""
    made = [
        "--model", resolve(args.model), "--host", args.host, "--port", str(args.port),
        "--dtype", args.dtype, "--tokens-only", "--logprobs-mode", "processed_logprobs",
        "--enable-prefix-caching", "--generation-config", "vllm",
    ]  # fmt: skip
    if args.max_model_len is not None:
        made += ["--max-model-len", str(args.max_model_len)]
    if on_gpu:
        return [*made, "--weight-transfer-config", '{"backend": "nccl"}']
    # As in vllm_engine.py: on a CPU a seeded request must not be split between two steps.
    return [*made, "--enforce-eager", "--no-enable-chunked-prefill"]
