"""Figures over the phases of training: what was learned, what the expert adds, where time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from luffy_pl.report.curves import benchmark_names, has_expert, watched_entropies
from luffy_pl.report.page.figure import Figure, Line, figure, metric_line
from luffy_pl.run_dir.read import RunHistory


@dataclass(frozen=True)
class LoggedQuantity:
    """A figure with a line per run and part: the first part is the policy's own.

    Args:
        parts: metrics by the name of their line.
        of_expert: only of runs that trained on an expert's tokens.
    """

    title: str
    says: str
    parts: Mapping[str, str]
    of_expert: bool = False


TRAINING = (
    LoggedQuantity(
        "reward",
        "Mean reward of the answers that were sampled in a phase. The expert's is that of its "
        "traces to the same prompts.",
        {"policy": "on_off_metrics/on_score", "expert": "on_off_metrics/off_score"},
    ),
    LoggedQuantity(
        "entropy (nats per token)",
        "How undecided the policy is. A steady fall towards 0 means that it stops exploring.",
        {"own tokens": "entropy/rollout_nats", "expert's tokens": "entropy/expert_nats"},
    ),
    LoggedQuantity(
        "length of answers (tokens)",
        "Mean length in a phase.",
        {
            "policy": "on_off_metrics/on_response_length_mean",
            "expert": "on_off_metrics/off_response_length_mean",
        },
    ),
)
EXPERT = (
    LoggedQuantity(
        "probability of the expert's tokens",
        "Mean probability under the policy. Near 1, nothing is left to imitate.",
        {"": "actor/off_policy_prob"},
        of_expert=True,
    ),
    LoggedQuantity(
        "groups that only the expert solves",
        "Share of the prompts of a phase. These are the groups in which the expert teaches most.",
        {"": "batch/only_expert_solves"},
        of_expert=True,
    ),
    LoggedQuantity(
        "imitation left (nats per token)",
        "Negative log-probability of the expert's tokens under the policy.",
        {"": "expert/nll_nats"},
        of_expert=True,
    ),
    LoggedQuantity(
        "the expert's share of the gradient",
        "Norm of the gradient of the expert's tokens over the sum of both norms.",
        {"": "expert/grad_norm_share"},
        of_expert=True,
    ),
    LoggedQuantity(
        "agreement of the gradients (cosine)",
        "Between the gradients of the expert's and of the policy's own tokens. Below 0 they pull "
        "against each other.",
        {"": "expert/grad_cosine"},
        of_expert=True,
    ),
)
TIME = (
    LoggedQuantity(
        "seconds of a phase",
        "The whole phase, with weights copied and evaluations made, and its large parts.",
        {
            "all": "timing_s/phase",
            "generate": "timing_s/generate",
            "score": "timing_s/score",
            "ask servers": "timing_s/ask",
            "train": "timing_s/train",
        },
    ),
    LoggedQuantity(
        "tokens per second",
        "Generated tokens over the time of generating, trained tokens over the time of training.",
        {
            "generated": "throughput/generated_tokens_per_s",
            "trained": "throughput/trained_tokens_per_s",
        },
    ),
)
HISTOGRAMS = {
    "probability": (
        "expert/probability_hist/",
        "Percent of the expert's tokens by their probability under the policy, in three phases.",
    ),
    "weight": (
        "expert/weight_hist/",
        "Percent of the expert's tokens by their weight in the loss, after shaping and clip, in "
        "three phases.",
    ),
}


def training_figures(runs: Sequence[RunHistory]) -> list[Figure]:
    """Accuracy, reward, entropy, length, and entropies of watched words."""
    watched = tuple(
        LoggedQuantity(title, "How undecided the policy is at the watched words.", {"": metric})
        for title, metric in watched_entropies(runs).items()
    )
    return [*accuracy_figures(runs), *quantity_figures(runs, (*TRAINING, *watched))]


def expert_figures(runs: Sequence[RunHistory]) -> list[Figure]:
    """What an expert's tokens add, in runs that trained on them."""
    drawn = quantity_figures(runs, EXPERT)
    for run in runs:
        for name in HISTOGRAMS:
            if found := histogram_figure(run, name, several=len(runs) > 1):
                drawn.append(found)
    return drawn


def time_figures(runs: Sequence[RunHistory]) -> list[Figure]:
    """Where the time of a phase goes."""
    return quantity_figures(runs, TIME)


def accuracy_figures(runs: Sequence[RunHistory]) -> list[Figure]:
    """One figure with a line per benchmark, or, of several runs, one for each benchmark."""
    says = (
        "Of every evaluation within training; phase 0 is before it. The band is the 95% interval."
    )
    names = benchmark_names(runs)
    if len(runs) == 1:
        lines = [accuracy_line(runs[0], name, name=name) for name in names]
        found = [figure("accuracy (percent)", says, "phase", lines)]
    else:
        found = [
            figure(
                f"accuracy on {name} (percent)", says, "phase",
                [accuracy_line(run, name, name=run.name, colour=place)
                 for place, run in enumerate(runs) if run.metrics],
            )
            for name in names
        ]  # fmt: skip
    return [one for one in found if one]


def accuracy_line(run: RunHistory, benchmark: str, *, name: str, colour: int | None = None) -> Line:
    """In percent, by the phase of the evaluation; evaluations without a grade are left out."""
    rows = sorted(
        (
            row
            for row in run.evaluations
            if row["benchmark"] == benchmark and row["avg"] is not None
        ),
        key=lambda row: row["phase"],
    )
    low, high = ([None if row[end] is None else 100 * row[end] for row in rows]
                 for end in ("low", "high"))  # fmt: skip
    return Line(
        name, [row["phase"] for row in rows], [100 * row["avg"] for row in rows],
        run.name, low, high, colour,
    )  # fmt: skip


def quantity_figures(
    runs: Sequence[RunHistory], quantities: Sequence[LoggedQuantity]
) -> list[Figure]:
    """A figure for each quantity that some run has."""
    drawn = (figure(one.title, one.says, "phase", quantity_lines(runs, one)) for one in quantities)
    return [one for one in drawn if one]


def quantity_lines(runs: Sequence[RunHistory], quantity: LoggedQuantity) -> Iterator[Line]:
    """Lines are named by their part, or by their run and part where there are several runs."""
    for place, run in enumerate(runs):
        if quantity.of_expert and not has_expert(run):
            continue
        for number, (part, metric) in enumerate(quantity.parts.items()):
            if len(runs) == 1:
                yield metric_line(run, metric, name=part)
            else:
                name = f"{run.name}, {part}" if number else run.name
                yield metric_line(run, metric, name=name, colour=place, dashed=number > 0)


def histogram_figure(run: RunHistory, name: str, *, several: bool) -> Figure | None:
    """Percent of the expert's tokens in each bin: first, middle and last phase."""
    prefix, says = HISTOGRAMS[name]
    phases = [
        phase
        for phase, row in sorted(run.metrics.items())
        if any(metric.startswith(prefix) for metric in row)
    ]
    if not phases:
        return None
    shown = dict.fromkeys([phases[0], phases[len(phases) // 2], phases[-1]])
    lines = [Line(f"phase {phase}", *bins(run.metrics[phase], prefix)) for phase in shown]
    title = f"the expert's tokens by {name} (percent)"
    return figure(f"{run.name}: {title}" if several else title, says, name, lines)


def bins(row: Mapping[str, float], prefix: str) -> tuple[list[float], list[float]]:
    """Middle and percent of each bin; its name is its lower end."""
    found = sorted(
        (float(metric.removeprefix(prefix)), 100 * share)
        for metric, share in row.items()
        if metric.startswith(prefix)
    )
    width = 1 / max(1, len(found))
    return [low + width / 2 for low, _ in found], [share for _, share in found]
