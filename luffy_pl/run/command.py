"""fit, validate, test and predict: Lightning's command line over our module and data module."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.ablation import check_leaf, check_one_leaf
from luffy_pl.callbacks.answers import answers_folder
from luffy_pl.callbacks.error_report import ErrorReport
from luffy_pl.callbacks.evaluation import Evaluation
from luffy_pl.callbacks.health import Health
from luffy_pl.callbacks.identity import check_identity, identity_of
from luffy_pl.callbacks.interruption import Interruption
from luffy_pl.callbacks.ledger import Ledger
from luffy_pl.callbacks.ranks import RankWatching, leave_ranks
from luffy_pl.callbacks.released_metrics import ReleasedMetrics
from luffy_pl.callbacks.replacement import Replacement
from luffy_pl.callbacks.throughput import Throughput
from luffy_pl.config.cross_checks import (
    check_checkpoint,
    check_devices,
    check_recipe,
    check_settings,
)
from luffy_pl.config.guards import check_command_line, check_no_secrets, check_writable
from luffy_pl.config.kinds import flat, register_kinds
from luffy_pl.config.limits import limit_parser
from luffy_pl.config.messages import explain, explain_refusal
from luffy_pl.config.model_checks import check_model
from luffy_pl.config.parser import SettingsParser
from luffy_pl.config.renamed import leaf_named_now
from luffy_pl.config.trainer_checks import check_precision
from luffy_pl.errors import ConfigError, first_line
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.process.first_rank import is_first_rank
from luffy_pl.process.folder_lock import alone
from luffy_pl.process.gpu_failure import gpu_failure, is_gpu_failure
from luffy_pl.process.quiet import quiet
from luffy_pl.process.rank_watch import is_of_a_collective, lost_each_other
from luffy_pl.process.ranks import group_timeout
from luffy_pl.registry import recorded_plugins, say_missing_plugins
from luffy_pl.run.layers import Layered, as_argument, layered, split_print_config
from luffy_pl.run.sections import LINKED, LINKS, SECTIONS, defaults_inside, known_keys
from luffy_pl.run_dir import DEFAULT_RUN_DIR
from luffy_pl.run_dir import begin as run_dir
from luffy_pl.run_dir.checkpoints import state_of
from luffy_pl.run_dir.saved_state import check_adapters, check_continues, read_checkpoint
from luffy_pl.training.loggers import build_loggers, check_loggers
from luffy_pl.training.module import LuffyModule

log = logging.getLogger(__name__)

register_kinds()


SEEDS = Bound(at_least=0, at_most=2**32 - 1)
THREADS = Bound(at_least=1, at_most=1024)  # beyond what a process may start, OpenMP kills it
"""Those that numpy takes, too."""
ALWAYS_THERE = (
    RankWatching, ErrorReport, Interruption, ReleasedMetrics, Health, Throughput, Ledger,
    Replacement,
)  # fmt: skip
"""Callbacks without settings."""


class LuffyCLI(LightningCLI):
    """LightningCLI with a run directory, our callbacks as sections, and links between halves.

    It has the one subcommand of `args[0]`: the parsers of the others would cost as much again each.

    Args:
        locks: holds the lock on the run directory for longer than this object lives.
    """

    def __init__(
        self, model: type, data: type, *, args: list[str], locks: ExitStack, **options: Any
    ) -> None:
        self.asked, self.locks = args[0], locks
        super().__init__(model, data, args=args, **options)

    def subcommands(self) -> dict[str, set[str]]:
        """The asked one, with the arguments that its parser leaves out."""
        return {self.asked: LightningCLI.subcommands()[self.asked]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Sections beside trainer, model and data."""
        parser.add_argument(
            "--recipe",
            type=str | None,
            default=None,
            help="name of the method, which conf/recipe sets; kept with all results",
        )
        parser.add_argument(
            "--run_dir", type=str, default=DEFAULT_RUN_DIR, help="all files of a run"
        )
        parser.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="continue the run in run_dir: fit from its last checkpoint, validate and test "
            "from the answers they kept",
        )
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="replace the run in run_dir"
        )
        parser.add_argument(
            "--dry_run",
            type=bool,
            default=False,
            help="read settings, data and weights that are on this machine, say what the run would "
            "do, and stop before the engine",
        )
        parser.add_argument(
            "--cpu_threads", type=int | None, default=None, help="threads of one process"
        )
        parser.add_argument(
            "--loggers",
            type=list[str],
            default=["tensorboard"],
            help="where metrics of fit go beside metrics.jsonl: tensorboard, wandb, mlflow, "
            "trackio, and what packages and plugins register",
        )
        parser.add_argument(
            "--plugins",
            type=list[dict[str, str]],
            default=[],
            help="written by the run: path and hash of each --plugin FILE.py; loads nothing",
        )
        for name, callback in SECTIONS.items():
            parser.add_lightning_class_args(callback, name)
        for (source, target), compute in LINKS.items():
            parser.link_arguments(source, target, compute_fn=compute)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Compose the configuration, then lay the ablation's one leaf over it."""
        args, print_flags = split_print_config(args)
        before = after = self._lay(parser, args)
        ablation = before.config.ablation
        if ablation.name is not None or ablation.leaf is not None:
            check_leaf(ablation.name, ablation.leaf)
            after = self._lay(parser, [*args, as_argument(ablation.leaf, ablation.value)])
            leaf = leaf_named_now(ablation.leaf)
            check_one_leaf(
                flat(before.config),
                flat(after.config),
                leaf=leaf,
                derived=LINKED | after.derived_from(leaf),
            )
        self.composed, self.said = before.config, after.said()
        check_no_secrets(flat(after.config))
        check_bound("cpu_threads", after.config.cpu_threads, THREADS)
        check_bound("seed_everything", after.config.seed_everything, SEEDS)
        if print_flags is not None:
            own = self._parser(self.config.subcommand)
            shown = dict.fromkeys(print_flags, True)
            sys.stdout.write(own.dump(after.config, **{"skip_unset": False, **shown}))
            sys.exit(0)

    def _lay(self, parser: LightningArgumentParser, args: Sequence[str]) -> Layered:
        """Parse into `self.config`; settings without effect are refused or dropped."""

        def parse(arguments: Sequence[str]) -> Any:
            LightningCLI.parse_arguments(self, parser, list(arguments))
            return self.config[self.config.subcommand]

        def defaults() -> dict[str, Any]:
            own = self._parser(self.config.subcommand)
            return defaults_inside() | flat(own.get_defaults(skip_validation=True))

        return layered(args, parse=parse, defaults=defaults)

    def _parse_ckpt_path(self) -> None:
        """Our checkpoints hold no settings for the parser, which would read all weights to look."""

    def before_instantiate_classes(self) -> None:
        """Everything that can be known to be wrong before a class is built."""
        config = self.config[self.subcommand]
        if self.subcommand == "fit" and config.resume:
            run_dir.check_plugins(Path(config.run_dir))
        say_missing_plugins(config.plugins, where="the configuration")
        # What was loaded, not what a file says.
        config.plugins = recorded_plugins()
        check_settings(config)
        if self.subcommand == "fit":
            check_recipe(config)
            check_loggers(config.loggers)
        if not config.dry_run:
            check_devices(config.trainer)
        check_model(config)
        for line in self.said:
            log.info("%s", line)
        if config.ckpt_path is not None:
            config.ckpt_path = state_of(config.ckpt_path)
        check_checkpoint(config.ckpt_path, config.trainer)
        self.check_state(config)
        if not config.dry_run:
            check_writable(config.run_dir)
            if is_first_rank():
                self.locks.enter_context(alone(Path(config.run_dir), self.asked))
        if config.weights_only is False:
            raise ConfigError(
                "weights_only", "would let a checkpoint run code", value=False, fix="leave it out"
            )
        config.weights_only = True
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)
        if self.subcommand == "fit":
            self.begin_or_resume(config)

    def check_state(self, config: Any) -> None:
        """The checkpoint of `--ckpt_path` goes with the settings."""
        if (path := config.ckpt_path) is None:
            return
        state = read_checkpoint(path)
        if self.subcommand != "fit":
            check_adapters(state, config.model.policy.lora, path=path)
            return
        check_continues(state, config, path=path)
        if state is not None and state["phases_trained"] == config.data.rollout.num_phases:
            raise ConfigError(
                "ckpt_path",
                f"has trained all phases of data.rollout.num_phases={state['phases_trained']}",
                value=path,
                fix="raise data.rollout.num_phases to train on, or evaluate it with validate",
            )

    def begin_or_resume(self, config: Any) -> None:
        """The run directory is free, or holds what this run goes on from.

        A dry run looks, and changes nothing.
        """
        folder = Path(config.run_dir)
        self.resumed_phase: int | None = None
        if not config.resume:
            if not config.dry_run:
                run_dir.begin(folder, overwrite=config.overwrite)
                if is_first_rank():
                    self.locks.callback(run_dir.undo_begin, folder)
            return
        saved = run_dir.find_resumed(folder, config)
        num_phases = config.data.rollout.num_phases
        if run_dir.is_finished(folder, saved, num_phases=num_phases):
            log.info(
                "resume: the run in %s is finished, all %d phases are trained; nothing is started. "
                "To train on, raise data.rollout.num_phases",
                folder,
                num_phases,
            )
            sys.exit(0)
        if not config.dry_run:
            run_dir.resume(folder, saved)
        self.resumed_phase = saved.phase if saved else 0
        if saved is not None:
            config.ckpt_path = str(saved.state)
            check_checkpoint(config.ckpt_path, config.trainer)

    def instantiate_classes(self) -> None:
        """Build everything; a value that a class refuses is the user's."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise explain_refusal(str(error)) from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, or say what it would do."""
        config = self.config[subcommand]
        if not config.dry_run:
            super()._run_subcommand(subcommand)
            return
        from luffy_pl.run.dry_run import RunPlan, show_plan

        self.datamodule.read(subcommand)
        self.datamodule.teardown(subcommand)
        parser = self._parser(subcommand)
        usual, here = (
            parser.dump(one, skip_unset=False, skip_validation=True)
            for one in (parser.get_defaults(skip_validation=True), config)
        )
        changed = run_dir.changes(usual, here)
        given = {name: both for name, both in changed.items() if name not in LINKED}
        show_plan(RunPlan(subcommand, config, given, self.datamodule, self.model.policy_config))

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Loggers write into the run directory; callbacks without settings are always there."""
        config = self.config[self.subcommand]
        if config.dry_run:
            return None  # it would want the devices of the run
        if self.subcommand == "fit":
            # What was written of phases that come again is hidden.
            purge = self.resumed_phase + 1 if self.resumed_phase else None
            made = build_loggers(config.loggers, Path(config.run_dir), purge_step=purge)
            kwargs.setdefault("logger", made)
        else:
            kwargs.setdefault("logger", False)
        # One pass over the sized stream of phases is the run.
        kwargs |= {"default_root_dir": config.run_dir, "max_epochs": 1}
        trainer = super().instantiate_trainer(**kwargs)
        check_precision(trainer.precision)  # a plugin may bring one
        trainer.callbacks.sort(key=place_of)
        if getattr(trainer.strategy, "_timeout", None) is not None:  # it has several ranks
            deadline = group_timeout(config.data.engine.deadline_s)
            trainer.strategy._timeout = max(trainer.strategy._timeout, deadline)
        return trainer

    def before_fit(self) -> None:
        """Keep the composed configuration beside its results."""
        if self.trainer.is_global_zero:
            # As it was composed: with the ablation's leaf already in it, it could not run again.
            composed = self.composed.clone()
            composed.resume, composed.overwrite, composed.ckpt_path = False, False, None
            composed.plugins = recorded_plugins()
            # With nulls: left out, they would be the defaults again when the file is used.
            parser = self._parser(self.subcommand)
            text = parser.dump(composed, skip_unset=False, skip_validation=True)
            run_dir.keep_config(Path(composed.run_dir), text, phase=self.resumed_phase)

    def before_validate(self) -> None:
        """What cannot be continued is said before anything is loaded."""
        config = self.config[self.subcommand]
        folder = answers_folder(config.run_dir, str(self.subcommand))
        if config.resume and folder is not None:
            check_identity(folder, identity_of(self.datamodule, config.ckpt_path))

    before_test = before_validate


def main(argv: Sequence[str], cli: type[LuffyCLI] = LuffyCLI) -> int:
    """Run a Lightning subcommand; errors of the user's world leave as LuffyError."""
    quiet()
    argv = run_dir.with_own_config(limit_parser(argv))
    check_command_line(argv)
    parser_kwargs = {"parser_mode": "omegaconf", "exit_on_error": False}
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
        raise explain(str(error), argv, known_keys=known_keys) from error
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


def place_of(callback: Any) -> int:
    """A phase is logged before an evaluation, which may be stopped, and before it is saved.

    Which rank is gone is found out before anything is done about it.
    """
    for place, kind in ((0, RankWatching), (1, Interruption), (3, Evaluation), (4, Checkpoint)):
        if isinstance(callback, kind):
            return place
    return 2
