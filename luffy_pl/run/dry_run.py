"""`--dry_run`: what a run would do, as far as it can be said without an engine.

Everything that a run reads before its engine starts is read, and so every mistake in it is found.
Weights that lie on this machine are loaded, and the policy is compared with its model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.text import Text

from luffy_pl.errors import LuffyError, ModelError, printable
from luffy_pl.estimate.estimate import estimate
from luffy_pl.estimate.plan import RowLengths
from luffy_pl.estimate.table import memory_line, model_line, time_line
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.process.ranks import count_ranks
from luffy_pl.run.differences import LeafDifference
from luffy_pl.training.policy_check import about_routers, build_here

MAX_DIFFERENCES = 12
MAX_TEXT = 1500
"""Characters of the first prompt, and of its trace, that are shown; a longer text has a gap."""
LABEL = 9
Lines = Iterator[str]


@dataclass(frozen=True)
class RunPlan:
    """A run that was composed and whose data was read.

    base: the configuration file that the run changes; None: it has none.
    differences: from it, or from the defaults.
    said: settings that are not used as they were written, a line each.
    resumed_phase: after which it would go on; None: it would begin.
    warnings: what was said while it was composed and read.
    stops: what would stop it.
    """

    subcommand: str
    config: Any
    base: str | None
    differences: Sequence[LeafDifference]
    said: Sequence[str]
    data: LuffyDataModule
    policy: Any
    resumed_phase: int | None
    warnings: Sequence[str]
    stops: Sequence[LuffyError]


def show_plan(plan: RunPlan) -> None:
    """Print what the run would do; the last line is OK.

    Raises:
        LuffyError: the first thing that would stop the run; others are printed before.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    warnings, found = list(plan.warnings), {}
    if plan.subcommand == "fit":
        try:
            found = estimate(plan.config, USUAL, lengths=row_lengths(plan))
            warnings += [f"by the estimate: {problem}" for problem in found["problems"]]
        except ModelError as error:  # the shape of a model whose own code was not run
            warnings.append(f"no estimate: {error.where}: {error.what}")
    for label, lines in SECTIONS.items():
        for number, line in enumerate(lines(plan, found)):
            console.print(Text(label if not number else "", style="bold"), end="")
            console.print(" " * (LABEL - (0 if number else len(label))), end=" ")
            console.print(line)
    for warning in warnings:
        console.print(f"warning   {warning}")
    if plan.stops:
        for stop in plan.stops[1:]:
            console.print(f"stops     {stop}")
        raise plan.stops[0]
    console.print(f"OK, with {counted(len(warnings), 'warning')}" if warnings else "OK")


USUAL = argparse.Namespace(device=None, config_json=None, response_tokens=None)
"""Options of `luffy-pl estimate` that nobody gave."""


def what_runs(plan: RunPlan, found: Any) -> Lines:
    """The method, whether it begins, and where it writes."""
    config = plan.config
    method = f" of recipe {config.recipe}" if config.recipe else ""
    if plan.subcommand != "fit":
        start = f"of {config.ckpt_path or 'the untrained model'}"
    elif plan.resumed_phase:
        start = f"goes on after phase {plan.resumed_phase}"
    else:
        start = "from the beginning"
    yield f"{plan.subcommand}{method}, {start}, in {config.run_dir}"


def model(plan: RunPlan, found: Any) -> Lines:
    """What is trained, and by what it is sampled."""
    policy, engine = plan.config.model.policy, plan.config.data.engine
    size = model_line(found) if found else policy.path
    yield f"{size}, {policy.dtype}; engine {engine.kind}"


def devices(plan: RunPlan, found: Any) -> Lines:
    """How many of what."""
    trainer = plan.config.trainer
    ranks = count_ranks(trainer)
    nodes = f" on {trainer.num_nodes} nodes" if trainer.num_nodes > 1 else ""
    precision = trainer.precision or "32-true"
    yield f"{ranks.total} x {trainer.accelerator}{nodes}, precision {precision}"


def differences(plan: RunPlan, found: Any) -> Lines:
    """Settings that are not those of the base, leaf by leaf."""
    count = counted(len(plan.differences), "setting")
    yield f"{count} from {plan.base or 'the defaults'}"
    for one in plan.differences[:MAX_DIFFERENCES]:
        yield f"  {one.name}: {one.here} (was {one.before})"
    if (more := len(plan.differences) - MAX_DIFFERENCES) > 0:
        yield f"  and {more} more: --print_config shows all settings"
    yield from (f"  {one}" for one in plan.said)


def data_report(plan: RunPlan, found: Any) -> Lines:
    """Rows and lengths."""
    prompts = plan.data.prompts
    if prompts is None:
        return
    yield from prompts.report.lines()
    traces = [len(t.token_ids) for of_one in prompts.traces.values() for t in of_one]
    lengths = f"prompts of {describe_lengths([len(p.token_ids) for p in prompts.prompts])}"
    yield lengths + (f"; traces of {describe_lengths(traces)}" if traces else "")


def benchmarks(plan: RunPlan, found: Any) -> Lines:
    """What is evaluated, and when."""
    each = [
        f"{benchmark.name} {len(problems)} x {benchmark.samples_per_problem}"
        for benchmark, problems in zip(plan.data.benchmarks, plan.data.problems, strict=True)
    ]
    if not each:
        return
    settings = plan.config.evaluation
    when = ", before" * settings.before_training
    when += f", every {settings.every_n_phases} phases" if settings.every_n_phases else ""
    lengths = [len(problem.token_ids) for problems in plan.data.problems for problem in problems]
    yield (
        f"{', '.join(each)} answers{f'{when}, at the end' if plan.subcommand == 'fit' else ''}; "
        f"prompts of {describe_lengths(lengths)}"
    )


def describe_lengths(counts: list[int]) -> str:
    """A summary of numbers of tokens."""
    return f"{min(counts)} to {max(counts)} tokens, median {median(counts):g}" if counts else "none"


def counted(number: int, what: str) -> str:
    """`1 setting`, `2 settings`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def phase(plan: RunPlan, found: Any) -> Lines:
    """What one phase samples and trains."""
    if plan.subcommand != "fit":
        return
    rollout, given = plan.data.rollout, plan.data.rollout.expert_traces_per_group
    yield (
        f"{rollout.prompts_per_phase} prompts x ({rollout.group_size - given} rollouts of at most "
        f"{rollout.max_response_tokens} tokens + {counted(given, 'expert trace')}), "
        f"{counted(plan.data.steps_per_phase, 'optimizer step')}"
    )


def whole_run(plan: RunPlan, found: Any) -> Lines:
    """Phases, steps and tokens."""
    if plan.subcommand != "fit" or plan.data.prompts is None:
        return
    rollout, num_prompts = plan.data.rollout, len(plan.data.prompts.prompts)
    groups = rollout.num_phases * rollout.prompts_per_phase
    sampled = groups * (rollout.group_size - rollout.expert_traces_per_group)
    yield (
        f"{rollout.num_phases} phases, {groups / num_prompts:.2f} passes over the data, "
        f"{rollout.num_phases * plan.data.steps_per_phase} optimizer steps, {sampled:,} rollouts, "
        f"at most {sampled * rollout.max_response_tokens:,} tokens"
    )


def memory(plan: RunPlan, found: Any) -> Lines:
    """Peaks of one device."""
    if found:
        yield memory_line(found)


def duration(plan: RunPlan, found: Any) -> Lines:
    """Time of a phase, and of all that are left."""
    if found:
        left = plan.data.rollout.num_phases - (plan.resumed_phase or 0)
        yield time_line(found, num_phases=left)


def policy_check(plan: RunPlan, found: Any) -> Lines:
    """Whether the policy computes what its model does."""
    if plan.subcommand != "fit":
        return
    if reason := weights_missing(Path(plan.data.model_path)):
        yield f"not compared with its model: {reason}"
        return
    policy = build_here(plan.policy)
    together = "packed" if policy.packs_rows else "padded"
    yield f"{together} rows differ from rows alone by at most {policy.gap_nats:.1g} nats"
    done = policy.transform
    if done.scale != 1 or done.cap is not None:
        cap = "" if done.cap is None else f", cap {done.cap:g}"
        yield f"the model changes its logits: factor {done.scale:g}{cap}"
    if line := about_routers(policy, plan.config.model.objective.router.coef):
        yield line
    if policy.windows:
        yield f"attention windows: {', '.join(map(str, sorted(policy.windows)))} tokens"


def weights_missing(folder: Path) -> str | None:
    """Why weights cannot be loaded here and now; None: they can."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not size:
        return "its weights are not in a folder of this machine"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # A policy may be wider than its file, and have a reference beside it.
    return f"{size / 2**30:.0f} GiB may not fit into memory" if 4 * size > free else None


def first_prompt(plan: RunPlan, found: Any) -> Lines:
    """The text that the model would see first, special tokens included, and its expert trace."""
    sets = [plan.data.prompts.prompts] if plan.data.prompts else plan.data.problems
    if not sets or not sets[0]:
        return
    prompt = sets[0][0]
    yield f"{prompt.id}, gold {printable(prompt.ground_truth)}"
    yield from text_lines(prompt.text)
    for trace in plan.data.prompts.traces.get(prompt.id, ())[:1] if plan.data.prompts else ():
        yield f"followed by the expert's {len(trace.token_ids)} tokens:"
        yield from text_lines(plan.data.tokenizer.decode(trace.token_ids))


def text_lines(text: str) -> Lines:
    """A text as it is, line by line; a long one without its middle."""
    if len(text) > MAX_TEXT:
        half = MAX_TEXT // 2
        text = f"{text[:half]}\n[{len(text) - 2 * half} characters]\n{text[-half:]}"
    for line in printable(text, keep="\n\t").split("\n"):
        yield f"| {line}"


def row_lengths(plan: RunPlan) -> RowLengths | None:
    """Lengths of the prompts and traces that were read; None if there are none."""
    if plan.data.prompts is None:
        return None
    prompts = [len(prompt.token_ids) for prompt in plan.data.prompts.prompts]
    traces = [len(t.token_ids) for found in plan.data.prompts.traces.values() for t in found]
    return RowLengths(
        longest_prompt=max(prompts),
        mean_prompt=fmean(prompts),
        mean_trace=fmean(traces) if traces else None,
    )


SECTIONS: dict[str, Callable[[RunPlan, Any], Lines]] = {
    "runs": what_runs,
    "model": model,
    "devices": devices,
    "differs": differences,
    "data": data_report,
    "evaluates": benchmarks,
    "a phase": phase,
    "in all": whole_run,
    "memory": memory,
    "time": duration,
    "policy": policy_check,
    "prompt": first_prompt,
}
"""Label to the lines that it stands before; a section that yields nothing is left out."""
