"""`luffy-pl report RUN [RUN ...]`: runs side by side, on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from luffy_pl.commands.parser import CommandParser
from luffy_pl.evaluation.tables import interval, percent, plain_table
from luffy_pl.report.compare import paired_table, paired_with_first
from luffy_pl.report.cost import MEASURES, check_measured, cost_table
from luffy_pl.report.curves import plot_runs
from luffy_pl.report.outcomes import read_outcomes
from luffy_pl.report.page.build import write_page
from luffy_pl.report.published import (
    CAVEAT,
    MATH,
    OTHER,
    compare_published,
    published_table,
)
from luffy_pl.run_dir.read import RunHistory, read_run


def main(argv: Sequence[str]) -> int:
    """Print a comparison; write a page, and the curves with --plot."""
    parser = CommandParser(
        prog="luffy-pl report", description="Compare finished runs: accuracy before and after."
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, help="run folders, such as outputs/quickstart"
    )
    parser.add_argument("--plot", type=Path, help="write the curves of all runs to this PNG")
    parser.add_argument(
        "--over", choices=list(MEASURES), default="phase",
        help="what curves are drawn over: --plot, and the page at first",
    )  # fmt: skip
    parser.add_argument(
        "--html", type=Path, metavar="FILE",
        help="write the page here; that of a single run goes to RUN/report.html without it",
    )  # fmt: skip
    parser.add_argument(
        "--paper", action="store_true", help="print published results beside those of the runs"
    )
    parser.add_argument(
        "--compare", action="store_true", help="the second of two runs against the first"
    )
    args = parser.parse_args(argv)
    if args.compare:
        if len(args.runs) != 2:
            parser.error("--compare takes two runs")
        if args.html or args.paper or args.plot:
            parser.error("--compare prints a table alone: leave --html, --paper and --plot out")
        Console().print(paired_table(*args.runs))
        return 0
    over = MEASURES[args.over]
    runs = [read_run(folder) for folder in args.runs]
    check_measured(runs, over)
    print_runs(runs, args.runs)
    if args.paper:
        print_published(runs, args.runs)
    if args.plot:
        plot_runs(runs, args.plot, over=over)
    page = args.html or (args.runs[0] / "report.html" if len(runs) == 1 else None)
    if page:
        write_page(args.runs, page, over=over)
        Console(soft_wrap=True).print(f"page: {page}", markup=False, highlight=False)
    return 0


def print_runs(runs: Sequence[RunHistory], folders: Sequence[Path]) -> None:
    """Accuracies, what they cost, and each later run against the first, problem by problem."""
    console = Console()
    console.print(comparison(runs))
    if (costs := cost_table(runs)) is not None:
        console.print(costs)
    for after in paired_with_first(folders):
        console.print(paired_table(folders[0], after))


def print_published(runs: Sequence[RunHistory], folders: Sequence[Path]) -> None:
    """The paper's rows beside ours, or why there are none."""
    outcomes = [
        (run.name, outcome)
        for run, folder in zip(runs, folders, strict=True)
        for outcome in read_outcomes(folder, run)
    ]
    comparison = compare_published(outcomes)
    if comparison is None:
        Console().print(f"none of {', '.join((*MATH, *OTHER))} was evaluated: nothing to compare")
    else:
        Console().print(published_table(comparison))
        Console().print(CAVEAT)


def comparison(runs: Sequence[RunHistory]) -> Table:
    """One line per run and benchmark: first and last evaluation, first and last entropy."""
    has_recipes = len(runs) > 1 and any(run.recipe for run in runs)
    table = plain_table(
        "accuracy in percent, 95% interval over problems",
        ["run", *(["recipe"] if has_recipes else []), "benchmark"],
        ["n", "before", "after", "interval", "entropy"],
    )
    for run in runs:
        before = {row["benchmark"]: row for row in run.evaluation(0)}
        _, entropy = run.series("entropy/rollout_nats")
        for number, row in enumerate(run.evaluation(run.last_phase)):
            first = before.get(row["benchmark"])
            table.add_row(
                escape(run.name) if number == 0 else "",
                *([escape(run.recipe or "") if number == 0 else ""] if has_recipes else []),
                escape(row["benchmark"]),
                str(row["n"]),
                percent(first["avg"]) if first else "",
                percent(row["avg"]),
                interval(row),
                f"{entropy[0]:.3f} {entropy[-1]:.3f}" if number == 0 and entropy else "",
            )
        table.add_section()
    return table
