"""The `luffy-pl` command: which module answers which subcommand, errors as one line.

Nothing heavy is imported before it is known to be needed: `luffy-pl --help` must be instant.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luffy_pl.errors import LuffyError

DEBUG = "--debug"
RUN = "luffy_pl.run.command"
QUICKSTART = "quickstart"
WRITE_TEXT = ("--print_config", "--help", "-h")
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
    "bench": ("luffy_pl.bench.command", "time learner, logprob, rollout, sync, scoring or start"),
    "env": ("luffy_pl.process.environment", "versions and hardware, for a report of a bug"),
    "completion": (
        "luffy_pl.run.completion",
        "a script that completes commands and settings on Tab",
    ),
    "miniature": ("luffy_pl.miniature.build", "build: make the small world of the quickstart"),
}
WITH_PLUGINS = (
    QUICKSTART, "fit", "validate", "test", "predict",
    "sweep", "data", "traces", "verify", "estimate",
)  # fmt: skip
"""Commands that compose a configuration or grade answers; the others take no `--plugin`."""


def usage() -> str:
    """Shown by --help."""
    lines = [f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "luffy-pl: learning to reason under off-policy guidance",
            "",
            "usage: luffy-pl COMMAND [options]     options of a command: luffy-pl COMMAND --help",
            "",
            *lines,
            "",
            "  --config A --config B   later files win, leaf by leaf; then --dotted.key value",
            "  --print_config          show the composed configuration and stop",
            "  --dry_run true          read settings and data, say what would be done, and stop",
            "  --debug                 show the traceback of an error",
            "  --plugin FILE.py        run a file of yours that registers a reward, a grader, ...",
            "  --allow_import PACKAGE  let a configuration name classes of a package of yours",
            "",
            "exit codes: 0 done, 2 configuration, 3 data, 4 model, 5 engine or rank, 6 verifier,",
            "            7 diverged, 8 storage, 9 memory, 130 interrupted, 143 terminated,",
            "            1 a sweep with cells that failed, an estimate that does not fit, a defect",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in args
    args = [argument for argument in args if argument != DEBUG]
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(version("luffy-pl") + "\n")
        return 0
    from luffy_pl.bundled import resolve_configs
    from luffy_pl.errors import ConfigError, LuffyError, first_line
    from luffy_pl.process.files import all_written, standard_streams, storage_error
    from luffy_pl.process.interrupt import INTERRUPTED, Stopped, imports_done, signals
    from luffy_pl.process.late_torchmetrics import import_late
    from luffy_pl.process.safe_start import make_start_safe

    try:
        make_start_safe()
        check_text(args)
        if args[0] not in COMMANDS:
            raise ConfigError("command", "is unknown", value=args[0], fix=suggest_command(args[0]))
        announce(args)
        args = resolve_configs(spelled_out(args))
        is_run = COMMANDS[args[0]][0] == RUN and not writes_text(args)
        with (
            standard_streams(are_the_result=not is_run),
            signals(is_patient=COMMANDS[args[0]][0] != RUN),
            all_written(),
        ):
            if COMMANDS[args[0]][0] == RUN:
                import_late()
            if args[0] in WITH_PLUGINS:
                # Before anything that reads a configuration, so that the names in it are known.
                from luffy_pl.registry import PLUGIN, load_plugins, take_option

                args, files = take_option(args, PLUGIN)
                load_plugins(files)
            module = importlib.import_module(COMMANDS[args[0]][0])
            imports_done()
            own = module.main(args if COMMANDS[args[0]][0] == RUN else args[1:])
    except LuffyError as error:
        return end_with(error, debug=debug)
    except KeyboardInterrupt:
        sys.stderr.write(f"luffy-pl: interrupted [{INTERRUPTED}]\n")
        return INTERRUPTED
    except Stopped as stopped:
        sys.stderr.write(f"luffy-pl: {stopped}\n")
        return stopped.exit_code
    except Exception as error:  # noqa: BLE001  (the last to see it)
        if (of_disk := storage_error(error)) is not None:
            return end_with(of_disk, debug=debug)
        where = " ".join(getattr(error, "__notes__", [])) or f"for the traceback: {DEBUG}"
        say(error, f"error [1] a defect: {first_line(error)} ({where})", debug=debug)
        return 1
    return int(own or 0)


def check_text(args: Sequence[str]) -> None:
    """A command line may hold any bytes; Python keeps those that are no text as half characters."""
    from luffy_pl.errors import ConfigError

    for number, argument in enumerate(args, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            what = "is not text in UTF-8"
            raise ConfigError(
                f"argument {number}", what, value=argument, fix="correct it"
            ) from None


def announce(args: Sequence[str]) -> None:
    """Say what the first seconds of a run are spent on, before any of it is imported.

    It is said once, not by every rank, and not beside what `--print_config` and `--help` write,
    which may go into a file together with stderr.
    """
    from luffy_pl.process.first_rank import is_first_rank

    is_loaded = "torch" in sys.modules
    if COMMANDS[args[0]][0] == RUN and is_first_rank() and not is_loaded and not writes_text(args):
        sys.stderr.write(f"luffy-pl {args[0]}: loading torch, Lightning and transformers\n")


def spelled_out(args: Sequence[str]) -> list[str]:
    """`quickstart` is short for a `fit`."""
    is_short = args[0] == QUICKSTART
    return ["fit", "--config", "bundled:quickstart", *args[1:]] if is_short else list(args)


def writes_text(args: Sequence[str]) -> bool:
    """Whether what a run prints is what was asked for."""
    return any(argument.startswith(WRITE_TEXT) for argument in args)


def end_with(error: LuffyError, *, debug: bool) -> int:
    """Say what ended the command, and to the process that started it; returns the exit code."""
    from luffy_pl.errors import leave

    leave(error)
    say(error, f"error [{error.exit_code}] {error}", debug=debug)
    return error.exit_code


def say(error: Exception, line: str, *, debug: bool) -> None:
    """One line; on demand, what led to it before."""
    if debug:
        import traceback

        traceback.print_exception(error)
    from luffy_pl.errors import printable

    sys.stderr.write(f"luffy-pl: {printable(line)}\n")


def suggest_command(name: str) -> str:
    """A suggestion for a mistyped command."""
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(COMMANDS)}"


if __name__ == "__main__":
    sys.exit(main())
