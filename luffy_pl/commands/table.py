"""Every subcommand of `luffy-pl`: the module that answers it, and what it does."""

from __future__ import annotations

RUN = "luffy_pl.run.command"
QUICKSTART = "quickstart"
COMMANDS = {
    QUICKSTART: (RUN, "train the small world that comes with the package; options as of fit"),
    "init": ("luffy_pl.project.command", "begin a project of your own: init FOLDER"),
    "fit": (RUN, "train: fit --config conf/quickstart.yaml"),
    "validate": (
        RUN,
        "evaluate a checkpoint or a base model on data.benchmarks",
    ),
    "test": (RUN, "the same, logged as a final test"),
    "predict": (RUN, "write graded answers to <run_dir>/predictions"),
    "status": ("luffy_pl.run_dir.status", "how far a run is, and whether it lives: status RUN"),
    "report": ("luffy_pl.report.command", "compare finished runs: report RUN [RUN ...]"),
    "view": ("luffy_pl.report.view", "curves, groups and tokens of a run as a page: view RUN"),
    "sweep": ("luffy_pl.sweep.command", "run a grid of cells: sweep experiments/NAME/grid.yaml"),
    "data": (
        "luffy_pl.corpus.command",
        "check: find what is wrong with prompts and traces; prepare",
    ),
    "traces": ("luffy_pl.traces.command", "generate: expert traces from a teacher, graded"),
    "chat": ("luffy_pl.chat.command", "talk to a run or a model folder: chat RUN"),
    "serve": ("luffy_pl.rollout.serve", "a vLLM server: for rollouts, or with --chat for people"),
    "verify": ("luffy_pl.reward.verify", "grade answers: verify --pairs FILE --out FILE"),
    "model": ("luffy_pl.model.command", "prepare: window, rope, template; from-gguf: convert"),
    "export": ("luffy_pl.model.export_command", "a run as a model folder: export RUN --out DIR"),
    "estimate": ("luffy_pl.run.estimate_command", "memory and time before a run: --config FILE"),
    "bench": (
        "luffy_pl.bench.command",
        "time learner, phases, rollout, sync, start and more",
    ),
    "env": ("luffy_pl.process.environment", "versions and hardware, for a report of a bug"),
    "completion": (
        "luffy_pl.run.completion",
        "a script that completes commands and settings on Tab",
    ),
    "miniature": ("luffy_pl.miniature.build", "build: make a small world, as the quickstart's"),
}
WITH_PLUGINS = (
    QUICKSTART, "fit", "validate", "test", "predict",
    "sweep", "data", "traces", "verify", "estimate",
)  # fmt: skip
"""Commands that compose a configuration or grade answers; the others take no `--plugin`."""


def is_run(command: str) -> bool:
    """Whether a command is a run of its own, with all its settings as options."""
    return COMMANDS[command][0] == RUN
