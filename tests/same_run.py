"""Whether two run directories hold the same run: weights, optimizer, memory, metrics, rollouts."""

import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from luffy_pl.run_dir.checkpoints import newest
from luffy_pl.run_dir.read import read_lines, read_metrics

NOT_TIME = ("timing_s/", "throughput/", "ledger/seconds")
# The ledger counts seconds, and loops and callbacks of Lightning say how often a run was started.
STATES = ("state_dict", "optimizer_states", "lr_schedulers", "luffy_pl", "LuffyDataModule")


def numbers(run_dir):
    """Metrics that are not times, by phase."""
    metrics, _ = read_metrics(run_dir / "metrics.jsonl")
    return {
        step: {name: value for name, value in row.items() if not name.startswith(NOT_TIME)}
        for step, row in metrics.items()
    }


def rollouts(run_dir):
    """Every written row, by file; the text of an answer stands for its tokens."""
    found = {file.name: read_lines(file) for file in (run_dir / "rollouts").glob("*.jsonl")}
    for row in (row for rows in found.values() for row in rows):
        del row["verdict"]["ms"]
    return found


def evaluations(run_dir):
    """Rows of every evaluation, the last of each where it was begun twice."""
    path = run_dir / "evaluation.jsonl"
    rows = read_lines(path) if path.exists() else []
    return {(row["phase"], row["benchmark"]): row for row in rows}


def final_state(run_dir):
    """Of the newest checkpoint, without what only says how it was run."""
    saved, skipped = newest(run_dir / "checkpoints")
    assert not skipped
    content = shards(saved.state) if saved.state.is_dir() else load(saved.state)
    return {"phase": saved.phase, **{name: content.get(name) for name in STATES}}


def load(path):
    """Plain values and tensors."""
    return torch.load(path, weights_only=True)


def shards(folder):
    """A sharded state, its optimizers gathered under the name they have in a whole one."""
    with tempfile.TemporaryDirectory() as beside:
        dcp_to_torch_save(folder, Path(beside) / "whole")
        found = load(Path(beside) / "whole")
    optimizers = [name for name in found if name.startswith("optimizer_")]
    rest = load(folder / "meta.pt")
    return rest | found | {"optimizer_states": [found[name] for name in sorted(optimizers)]}


def doubled(run_dir):
    """Values that metrics.jsonl holds twice, by phase and name."""
    lines = [line for line in read_lines(run_dir / "metrics.jsonl") if "step" in line]
    counts = Counter((line["step"], name) for line in lines for name in line if name != "step")
    return [key for key, count in counts.items() if count > 1]


def differences(one, two):
    """What is not the same in two runs, by name; empty if they are the same run."""
    found = [f"twice: {name}" for run_dir in (one, two) for _, name in doubled(run_dir)]
    for compare in (numbers, rollouts, evaluations):
        if compare(one) != compare(two):
            found.append(compare.__name__)
    states = final_state(one), final_state(two)
    return found + [name for name in states[0] if not equal(states[0][name], states[1][name])]


def equal(one, two):
    """Bit by bit, through containers."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two
