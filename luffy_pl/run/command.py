"""fit, validate, test and predict: Lightning's command line over our module and data module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from luffy_pl.callbacks.ranks import leave_ranks
from luffy_pl.commands.help import asked_help
from luffy_pl.config.guards import check_command_line
from luffy_pl.config.kinds import register_kinds
from luffy_pl.config.limits import limit_parser
from luffy_pl.config.messages import explain
from luffy_pl.config.parser import SettingsParser
from luffy_pl.errors import ConfigError, first_line
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.process.first_rank import know_own_rank
from luffy_pl.process.gpu_failure import gpu_failure, is_gpu_failure
from luffy_pl.process.quiet import quiet
from luffy_pl.process.rank_watch import is_of_a_collective, lost_each_other
from luffy_pl.run.lightning_cli import ALWAYS_THERE, LuffyCLI
from luffy_pl.run_dir import begin as run_dir
from luffy_pl.training.module import LuffyModule

register_kinds()


def main(argv: Sequence[str], cli: type[LuffyCLI] = LuffyCLI) -> int:
    """Run a Lightning subcommand; errors of the user's world leave as LuffyError."""
    if (asked := asked_help(argv)) is not None:
        from luffy_pl.run.settings_help import help_text

        sys.stdout.write(help_text(asked))
        return 0
    quiet()
    know_own_rank()
    argv = run_dir.with_own_config(limit_parser(argv))
    check_command_line(argv)
    parser_kwargs = {"parser_mode": "omegaconf", "exit_on_error": False, "allow_abbrev": False}
    try:
        with ExitStack() as locks:
            locks.push(leave_ranks)
            cli(
                LuffyModule,
                LuffyDataModule,
                args=argv,
                locks=locks,
                save_config_callback=None,
                seed_everything_default=0,
                parser_class=SettingsParser,
                trainer_defaults={
                    "callbacks": [make() for make in ALWAYS_THERE],
                    "num_sanity_val_steps": 0,
                    "enable_model_summary": False,
                    "log_every_n_steps": 1,
                },
                parser_kwargs={**parser_kwargs, argv[0]: parser_kwargs},
            )
    except ArgumentError as error:
        from luffy_pl.run.settings_table import setting_names

        def known() -> list[str]:
            return [name.replace("[]", "") for name in setting_names(of_entries=True)]

        raise explain(str(error), argv, known_keys=known) from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            str(error.full_key), first_line(error), fix="set it, or write the value out"
        ) from error
    except SystemExit as left:
        # Lightning ends what was interrupted before or after training with exit(1).
        if isinstance(left.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise ConfigError("trainer", first_line(error), fix="correct trainer.*") from error
    except RuntimeError as error:
        if is_gpu_failure(error):
            raise gpu_failure(error, f"{argv[0]} failed") from error
        if is_of_a_collective(error):
            raise lost_each_other(error) from error
        raise
    return 0
