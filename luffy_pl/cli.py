"""The `luffy-pl` command: which module answers which subcommand, errors as one line.

Nothing heavy is imported before it is known to be needed: `luffy-pl --help` must be instant.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luffy_pl.commands.help import asked_help, run_usage, usage
from luffy_pl.commands.table import COMMANDS, QUICKSTART, WITH_PLUGINS, is_run

if TYPE_CHECKING:
    from luffy_pl.errors import LuffyError

DEBUG = "--debug"
SLOW = ("sweep", "data", "traces", "chat", "model", "export", "estimate", "bench")
"""Commands beside runs that import torch."""
PRINT_CONFIG = "--print_config"
SWITCHES = ("--resume", "--overwrite", "--dry_run")
"""Options of a run that are on or off; its settings of that kind are known to its parser."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    args = of_the_program() if argv is None else list(argv)
    debug = DEBUG in args
    args = [argument for argument in args if argument != DEBUG]
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(version("luffy-pl") + "\n")
        return 0
    if args[0] in COMMANDS and is_run(args[0]) and asked_help(args) == "":
        sys.stdout.write(run_usage(args[0]))
        return 0
    from luffy_pl.errors import LuffyError
    from luffy_pl.process.files import all_written, standard_streams
    from luffy_pl.process.garbage import left_alone
    from luffy_pl.process.interrupt import INTERRUPTED, Stopped, signals
    from luffy_pl.process.late_torchmetrics import import_late
    from luffy_pl.process.safe_start import make_start_safe

    try:
        make_start_safe()
        args = checked(args)
        announce(args)
        runs = is_run(args[0])
        with (
            standard_streams(are_the_result=not runs or writes_text(args)),
            signals(is_patient=not runs),
            all_written(),
            left_alone(),
        ):
            if runs:
                import_late()
            if args[0] in WITH_PLUGINS:
                # Before anything that reads a configuration, so that the names in it are known.
                from luffy_pl.registry import PLUGIN, load_plugins, take_option

                args, files = take_option(args, PLUGIN)
                load_plugins(files)
            own = imported(args[0]).main(args if runs else args[1:])
    except LuffyError as error:
        return end_with(error, debug=debug)
    except KeyboardInterrupt:
        sys.stderr.write(f"luffy-pl: interrupted [{INTERRUPTED}]\n")
        return INTERRUPTED
    except Stopped as stopped:
        sys.stderr.write(f"luffy-pl: {stopped}\n")
        return stopped.exit_code
    except Exception as error:  # noqa: BLE001  (the last to see it)
        return end_unexpectedly(error, debug=debug)
    return int(own or 0)


def imported(command: str) -> Any:
    """The module that answers a command; what it brings stays to the end."""
    from luffy_pl.process.garbage import keep_imports, look_again
    from luffy_pl.process.interrupt import imports_done

    module = importlib.import_module(COMMANDS[command][0])
    imports_done()
    keep_imports()
    if not is_run(command):
        look_again()  # a run does when it has composed its settings
    return module


def of_the_program() -> list[str]:
    """The arguments of this process, which ends without looking through what ends with it.

    Before and after `signals` it dies of Ctrl-C in silence.
    """
    from luffy_pl.process.garbage import keep_all_at_the_end

    keep_all_at_the_end()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return sys.argv[1:]


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


def checked(args: Sequence[str]) -> list[str]:
    """The arguments as the commands take them, after what can be seen to be mistyped."""
    from luffy_pl.bundled import resolve_configs
    from luffy_pl.commands.mistakes import check_command, check_configs, check_words
    from luffy_pl.commands.switches import with_values

    check_text(args)
    check_command(args)
    if is_run(args[0]):
        args = with_values(args, SWITCHES)
    check_configs(args)
    if asked_help(args) is None:
        check_words(args)
    return resolve_configs(spelled_out(args))


def announce(args: Sequence[str]) -> None:
    """Say what the first seconds are spent on, before any of it is imported.

    It is said once, not by every rank. Where nobody looks at a terminal, only a run says it: what
    other commands, `--print_config` and `--help` write may go into a file together with stderr.
    """
    from luffy_pl.process.first_rank import seems_first

    command, runs = args[0], is_run(args[0])
    is_said = sys.stderr.isatty() or (runs and not writes_text(args))
    if is_said and seems_first() and "torch" not in sys.modules and (runs or command in SLOW):
        what = "torch, Lightning and transformers" if runs else "torch and transformers"
        sys.stderr.write(f"luffy-pl {command}: loading {what}\n")


def spelled_out(args: Sequence[str]) -> list[str]:
    """`quickstart` is short for a `fit`."""
    is_short = args[0] == QUICKSTART
    return ["fit", "--config", "bundled:quickstart", *args[1:]] if is_short else list(args)


def writes_text(args: Sequence[str]) -> bool:
    """Whether what a run prints is what was asked for."""
    return asked_help(args) is not None or any(one.startswith(PRINT_CONFIG) for one in args)


def end_with(error: LuffyError, *, debug: bool) -> int:
    """Say what ended the command, and to the process that started it; returns the exit code."""
    from luffy_pl.errors import leave

    leave(error)
    say(error, f"error [{error.exit_code}] {error}", debug=debug)
    return error.exit_code


def end_unexpectedly(error: Exception, *, debug: bool) -> int:
    """What no code here raises on purpose: the disk's, a plugin's, or a defect of ours."""
    from luffy_pl.errors import first_line
    from luffy_pl.process.files import storage_error
    from luffy_pl.registry import plugin_failure

    known = storage_error(error) or plugin_failure(error)
    if known is not None:
        return end_with(known.with_traceback(error.__traceback__), debug=debug)
    where = " ".join(getattr(error, "__notes__", [])) or f"for the traceback: {DEBUG}"
    say(error, f"error [1] a defect: {first_line(error)} ({where})", debug=debug)
    return 1


def say(error: Exception, line: str, *, debug: bool) -> None:
    """One line; on demand, what led to it before."""
    if debug:
        import traceback

        traceback.print_exception(error)
    from luffy_pl.commands.program import runnable
    from luffy_pl.errors import printable

    sys.stderr.write(f"luffy-pl: {runnable(printable(line))}\n")


if __name__ == "__main__":
    sys.exit(main())
