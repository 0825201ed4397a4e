"""`luffy-pl serve MODEL`: a vLLM server for a trainer, or with `--chat` for people and programs.

It becomes `vllm serve`. For a trainer it takes and gives tokens, log-probabilities are those at the
sampling temperature, and it has the routes that replace weights. Those know no password, and who
reaches them can have the server load any file. For people it answers /v1/chat/completions and
/v1/completions and has no such routes. Either listens on this machine alone unless told otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from luffy_pl.bundled import resolve
from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.start import check_vllm
from luffy_pl.rollout.vllm_limits import caches_prefixes, check_computed, language_config

DEV_MODE = "VLLM_SERVER_DEV_MODE"
"""vLLM's switch for the routes that pause, replace weights and resume."""
WORKER = "luffy_pl.rollout.server_worker.Worker"
ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def main(argv: Sequence[str]) -> int:
    """Replace this process by the server."""
    args, more = parser().parse_known_args(argv)
    check_vllm("serve")
    check_is_model(args.model)
    os.environ.update(environment(args))
    # The `vllm` program asks for the version of a distribution of that name, which vllm-cpu is not.
    module = [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server"]
    os.execv(sys.executable, [*module, *command(args, on_gpu=torch.cuda.is_available()), *more])


def parser() -> argparse.ArgumentParser:
    """What to serve and where to listen; a trainer's `data.engine` must agree with it."""
    made = CommandParser(
        prog="luffy-pl serve", epilog="Further options go to `vllm serve` as they are."
    )
    made.add_argument(
        "model", help="folder, hub name or bundled:NAME: model.policy.path of the run"
    )
    made.add_argument(
        "--chat", action="store_true", help="OpenAI's /v1/chat/completions and /v1/completions"
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on; see docs/scale.md")
    made.add_argument("--port", type=int, default=8000)
    made.add_argument(
        "--dtype",
        help=f"data.engine.dtype of the run, {EngineConfig.dtype} by default; with --chat auto",
    )
    made.add_argument("--max-model-len", type=int, help="data.engine.max_model_len of the run")
    made.add_argument("--cpu-kv-cache-gib", type=int, default=EngineConfig.cpu_kv_cache_gib)
    return made


def check_is_model(model: str) -> None:
    """A run keeps checkpoints, which vLLM does not load."""
    folder = Path(model)
    if (folder / "config.yaml").is_file() and not (folder / "config.json").is_file():
        raise ConfigError(
            "serve", "is the folder of a run, not of a model", value=model,
            fix=f"luffy-pl export {model} --out {model}_model, and serve that",
        )  # fmt: skip


def environment(args: argparse.Namespace) -> dict[str, str]:
    """Variables of vLLM's server."""
    cache = {"VLLM_CPU_KVCACHE_SPACE": str(args.cpu_kv_cache_gib)}
    return {**ENVIRONMENT, **cache, DEV_MODE: "0" if args.chat else "1"}


def command(args: argparse.Namespace, *, on_gpu: bool) -> list[str]:
    """Arguments of vLLM's server."""
    path = resolve(args.model)
    made = [
        "--model", path, "--host", args.host, "--port", str(args.port),
        "--logprobs-mode", "processed_logprobs",
    ]  # fmt: skip
    if args.chat:
        made += ["--dtype", args.dtype or "auto", "--served-model-name", served_name(path)]
    else:
        dtype = args.dtype or EngineConfig.dtype
        made += ["--dtype", dtype, "--tokens-only", "--generation-config", "vllm"]
        made += ["--worker-extension-cls", WORKER]
    if args.max_model_len is not None:
        made += ["--max-model-len", str(args.max_model_len)]
    if not on_gpu:
        return made + of_cpu(path, args)
    made += ["--enable-prefix-caching"]
    return made if args.chat else [*made, "--weight-transfer-config", '{"backend": "nccl"}']


def of_cpu(path: str, args: argparse.Namespace) -> list[str]:
    """What a model needs there; why, is said in vllm_start.py and vllm_limits.py."""
    model = language_config(path)
    if not args.chat:
        check_computed(model, dtype=args.dtype or EngineConfig.dtype)
    caching = "--enable-prefix-caching" if caches_prefixes(model) else "--no-enable-prefix-caching"
    return ["--enforce-eager", "--no-enable-chunked-prefill", caching]


def served_name(path: str) -> str:
    """What clients call the model: the name of its folder, or all of that on the hub."""
    return Path(path).resolve().name if Path(path).is_dir() else path
