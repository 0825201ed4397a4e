"""`--dry_run true`: what a run would do, as far as it can be said without an engine.

Everything that a run reads before its engine starts is read, and so every mistake in it is found.
Weights that lie on this machine are loaded, and the policy is compared with its model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from luffy_pl.errors import printable
from luffy_pl.estimate.estimate import estimate
from luffy_pl.estimate.table import table_lines
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.training.policy_check import build_here

# Characters of the first trace that are shown, at each end.
TRACE_END = 400
Lines = Iterator[RenderableType]


@dataclass(frozen=True)
class RunPlan:
    """A run that was composed and whose data was read.

    config: its configuration. changed: settings of it that somebody gave, by dotted name: the
    default, and what it is.
    """

    subcommand: str
    config: Any
    changed: Mapping[str, tuple[Any, Any]]
    data: LuffyDataModule
    policy: Any


def show_plan(plan: RunPlan) -> None:
    """Print every section."""
    console = Console()
    for title, section in SECTIONS.items():
        if content := list(section(plan)):
            console.print(f"\n[bold]{title}[/bold]", highlight=False)
            for one in content:
                console.print(one, highlight=False)


def changed_settings(plan: RunPlan) -> Lines:
    """Settings that are not the defaults, and the defaults."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("setting", no_wrap=True)
    for column in ("here", "default"):
        table.add_column(column, overflow="fold")
    for name, (default, value) in plan.changed.items():
        table.add_row(Text(name), Text(str(value)), Text(str(default)))
    yield table


def data_report(plan: RunPlan) -> Lines:
    """Rows, lengths, and what is evaluated."""
    prompts = plan.data.prompts
    if prompts is not None:
        yield from map(Text, prompts.report.lines())
        yield Text(f"prompts: {describe_lengths([len(p.token_ids) for p in prompts.prompts])}")
        traces = [len(t.token_ids) for of_one in prompts.traces.values() for t in of_one]
        if traces:
            yield Text(f"expert traces: {describe_lengths(traces)}")
    for benchmark, problems in zip(plan.data.benchmarks, plan.data.problems, strict=True):
        yield Text(
            f"{benchmark.name}: {len(problems)} problems, {benchmark.samples_per_problem} answers "
            f"each; prompts: {describe_lengths([len(p.token_ids) for p in problems])}"
        )


def describe_lengths(counts: list[int]) -> str:
    """A summary of numbers of tokens."""
    if not counts:
        return "none"
    return f"{min(counts)} to {max(counts)} tokens, median {median(counts):g}"


def steps(plan: RunPlan) -> Lines:
    """What the run trains and samples."""
    if plan.data.prompts is None:
        return
    rollout, num_prompts = plan.data.rollout, len(plan.data.prompts.prompts)
    groups = rollout.num_phases * rollout.prompts_per_phase
    given = rollout.expert_traces_per_group
    yield Text(
        f"{rollout.num_phases} phases of {rollout.prompts_per_phase} prompts: "
        f"{groups / num_prompts:.2f} passes over the data, "
        f"{rollout.num_phases * plan.data.steps_per_phase} optimizer steps"
    )
    yield Text(
        f"a group: {rollout.group_size - given} rollouts of at most {rollout.max_response_tokens} "
        f"tokens, {given} with an expert trace"
    )
    sampled = groups * (rollout.group_size - given)
    yield Text(f"{sampled} rollouts, at most {sampled * rollout.max_response_tokens} tokens")


def memory_and_time(plan: RunPlan) -> Lines:
    """What `luffy-pl estimate` says of the same configuration."""
    if plan.subcommand == "fit":
        usual = argparse.Namespace(device=None, config_json=None, response_tokens=None)
        yield from map(Text, table_lines(estimate(plan.config, usual)))


def policy_check(plan: RunPlan) -> Lines:
    """Whether the policy computes what its model does."""
    if plan.subcommand != "fit":
        return
    if reason := weights_missing(Path(plan.data.model_path)):
        yield Text(f"not compared with its model: {reason}")
        return
    policy = build_here(plan.policy)
    yield Text(f"packed rows differ from rows alone by at most {policy.gap_nats:.1g} nats")
    done = policy.transform
    if done.scale != 1 or done.cap is not None:
        cap = "" if done.cap is None else f", cap {done.cap:g}"
        yield Text(f"the model changes its logits: factor {done.scale:g}{cap}")
    if policy.windows:
        yield Text(f"attention windows: {', '.join(map(str, sorted(policy.windows)))} tokens")


def weights_missing(folder: Path) -> str | None:
    """Why weights cannot be loaded here and now; None: they can."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not size:
        return "its weights are not in a folder of this machine"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # A policy may be wider than its file, and have a reference beside it.
    return f"{size / 2**30:.0f} GiB may not fit into memory" if 4 * size > free else None


def first_prompt(plan: RunPlan) -> Lines:
    """The text that the model would see first, special tokens included, and its expert trace."""
    sets = [plan.data.prompts.prompts] if plan.data.prompts else plan.data.problems
    if not sets or not sets[0]:
        return
    prompt = sets[0][0]
    yield Text(f"{prompt.id}, gold {printable(prompt.ground_truth)}", style="dim")
    yield Text(printable(prompt.text))
    for trace in plan.data.prompts.traces.get(prompt.id, ())[:1] if plan.data.prompts else ():
        text = printable(plan.data.tokenizer.decode(trace.token_ids))
        if len(text) > 2 * TRACE_END:
            text = f"{text[:TRACE_END]}\n[...]\n{text[-TRACE_END:]}"
        yield Text(f"followed by the expert's {len(trace.token_ids)} tokens:", style="dim")
        yield Text(text)


SECTIONS: dict[str, Callable[[RunPlan], Lines]] = {
    "Settings that are not the defaults": changed_settings,
    "Data": data_report,
    "Steps": steps,
    "Memory and time": memory_and_time,
    "Policy": policy_check,
    "First prompt": first_prompt,
}
"""Title to what is printed below it; a section that yields nothing is left out."""
