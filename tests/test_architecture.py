"""Who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "luffy_pl"
LEAVES = {
    "records",
    "errors",
    "bundled",
    "faults",
    "interrupt",
    "lora",
    "neighbours",
    "pretrained",
    "ranks",
}
MAY_IMPORT = {
    "records": set(),
    "errors": set(),
    "bundled": {"errors"},
    "faults": {"errors"},
    "lora": {"errors"},
    "neighbours": set(),
    "pretrained": {"errors"},
    "ranks": {"errors"},
    "objective": set(),
    "reward": {"records", "errors"},
    "rollout": LEAVES,
    "data": LEAVES | {"objective", "reward", "rollout"},
    "training": LEAVES | {"objective", "data"},
    "evaluation": LEAVES | {"objective"},
    "callbacks": LEAVES
    | {"objective", "data", "rollout", "training", "evaluation", "checkpoint_folder", "status"},
    "miniature": LEAVES | {"data"},
    "bench": LEAVES | {"objective", "reward", "rollout", "data", "training"},
    "corpus": LEAVES | {"command_options", "data", "reward", "training", "evaluation"},
    "teacher": LEAVES | {"command_options", "data", "reward", "rollout"},
    "model": LEAVES | {"checkpoint_folder", "data", "evaluation", "run"},
    "command_options": {"errors", "config_errors"},
    "composition": {"errors", "config_checks", "run"},
    "estimate": LEAVES | {"composition", "objective", "training", "bench"},
    "model_checks": LEAVES | {"estimate", "training"},
    "sweep": {"errors", "evaluation", "interrupt", "composition"},
    "run": LEAVES
    | {"config_errors", "guards", "parser_limits", "config_checks", "model_checks", "dry_run"}
    | {"data", "training", "callbacks", "run_dir", "checkpoint_folder"},
    "dry_run": {"errors", "data", "callbacks", "estimate"},
    "completion": {"cli", "run"},
    "environment": set(),
    "guards": {"errors"},
    "parser_limits": {"errors", "guards"},
    "run_dir": {"errors", "checkpoint_folder", "training"},
    "checkpoint_folder": {"errors", "faults"},
    "status": {"errors", "checkpoint_folder"},
    "config_errors": {"errors"},
    "config_checks": {"errors", "ranks"},
    "cli": {"errors", "guards", "interrupt"},
    "interrupt": set(),
}
HOME_OF = {
    "vllm": {"rollout/vllm_engine.py", "rollout/nccl_transfer.py", "bench/sync.py"},
    "aiohttp": {"rollout/server_pool.py"},
    "pebble": {"reward/pool.py"},
    "peft": {"lora.py"},
    "jsonargparse": {"run.py", "parser_limits.py", "command_options.py"},
    "openai": {"traces/endpoint.py"},
    "ray": {"sweep/launch_ray.py"},
    "submitit": {"sweep/launch_slurm.py"},
}
FORBIDDEN = {"pytorch_lightning", "pdb"}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_imports_follow_the_arrows(file):
    where = file.relative_to(PACKAGE)
    here = where.with_suffix("").parts[0]
    for name in imports(file):
        root, *rest = name.split(".")
        assert root not in FORBIDDEN
        if root == "luffy_pl" and rest and rest[0] != here:
            assert rest[0] in MAY_IMPORT[here], f"{here} must not import {rest[0]}"
        if root in HOME_OF:
            assert str(where) in HOME_OF[root], f"{root} is imported only in {HOME_OF[root]}"


def test_no_drawer_files():
    assert not [
        f for f in PACKAGE.rglob("*.py") if f.stem in ("utils", "common", "helpers", "base")
    ]
