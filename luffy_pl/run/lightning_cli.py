"""Lightning's command line with a run directory, the sections of a run, and all of its checks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.bundled import short_name
from luffy_pl.callbacks.ablation import check_leaf, check_one_leaf
from luffy_pl.callbacks.answers import answers_folder
from luffy_pl.callbacks.checkpoint import check_best
from luffy_pl.callbacks.error_report import ErrorReport
from luffy_pl.callbacks.evaluation import Evaluation
from luffy_pl.callbacks.health import Health
from luffy_pl.callbacks.identity import check_identity, identity_of
from luffy_pl.callbacks.interruption import Interruption
from luffy_pl.callbacks.ledger import Ledger
from luffy_pl.callbacks.ranks import RankWatching
from luffy_pl.callbacks.released_metrics import ReleasedMetrics
from luffy_pl.callbacks.replacement import Replacement
from luffy_pl.callbacks.throughput import Throughput
from luffy_pl.commands.switches import with_values
from luffy_pl.config.cross_checks import (
    check_checkpoint,
    check_devices,
    check_recipe,
    check_replicas,
    check_settings,
)
from luffy_pl.config.guards import check_no_secrets, check_writable
from luffy_pl.config.kinds import flat
from luffy_pl.config.messages import explain_refusal
from luffy_pl.config.model_checks import check_model
from luffy_pl.config.order import base_file
from luffy_pl.config.renamed import leaf_named_now
from luffy_pl.config.sources import leaves, read_sources
from luffy_pl.config.switches import switches_of
from luffy_pl.config.trainer_checks import check_precision
from luffy_pl.errors import ConfigError, LuffyError
from luffy_pl.process.first_rank import is_first_rank
from luffy_pl.process.folder_lock import alone, check_not_in_use
from luffy_pl.process.garbage import look_again
from luffy_pl.process.quiet import keep_warnings
from luffy_pl.process.ranks import group_timeout
from luffy_pl.registry import recorded_plugins, say_missing_plugins
from luffy_pl.run.differences import different_leaves
from luffy_pl.run.layers import Layered, as_argument, layered, split_print_config
from luffy_pl.run.options import OPTIONS
from luffy_pl.run.sections import LINKED, LINKS, SECTIONS, defaults_inside
from luffy_pl.run_dir import begin as run_dir
from luffy_pl.run_dir.checkpoints import state_of
from luffy_pl.run_dir.saved_state import (
    check_adapters,
    check_continues,
    read_checkpoint,
    read_data_state,
)
from luffy_pl.training.loggers import build_loggers, check_loggers

log = logging.getLogger(__name__)

SEEDS = Bound(at_least=0, at_most=2**32 - 1)
"""Those that numpy takes, too."""
THREADS = Bound(at_least=1, at_most=1024)  # beyond what a process may start, OpenMP kills it
OF_THE_START = (*run_dir.OF_THE_START, "weights_only")
"""How a start is made; a dry run compares everything else."""
ALWAYS_THERE = (
    RankWatching, ErrorReport, Interruption, ReleasedMetrics, Health, Throughput, Ledger,
    Replacement,
)  # fmt: skip
"""Callbacks without settings."""

OF_A_PARSER = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")
"""What Lightning keeps of a parser that it has made."""
PARSERS: dict[str, dict[str, Any]] = {}
"""By subcommand. Parsing changes nothing in them, and plugins add no settings."""


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
        self.stops: list[LuffyError] = []
        self.warnings: list[str] = []
        super().__init__(model, data, args=args, **options)

    def subcommands(self) -> dict[str, set[str]]:
        """The asked one, with the arguments that its parser leaves out."""
        return {self.asked: LightningCLI.subcommands()[self.asked]}

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning does, once in a process: a sweep composes every cell."""
        if self.asked not in PARSERS:
            super().setup_parser(*args, **kwargs)
            for parser in (self.parser, *self._subcommand_parsers.values()):
                parser.found = {}
            PARSERS[self.asked] = {name: vars(self)[name] for name in OF_A_PARSER}
        vars(self).update(PARSERS[self.asked])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Sections beside trainer, model and data."""
        for name, option in OPTIONS.items():
            parser.add_argument(
                f"--{name}", type=option.type, default=option.default, help=option.help
            )
        for name, callback in SECTIONS.items():
            parser.add_lightning_class_args(callback, name)
        for (source, target), compute in LINKS.items():
            parser.link_arguments(source, target, compute_fn=compute)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Compose the configuration, then lay the ablation's one leaf over it."""
        self.args, own = list(args), self._parser(self.asked)
        args, print_flags = split_print_config(with_values(args, switches_of(own)))
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
            shown = dict.fromkeys(print_flags, True)
            sys.stdout.write(own.dump(after.config, **{"skip_unset": False, **shown}))
            sys.exit(0)

    def _lay(self, parser: LightningArgumentParser, args: Sequence[str]) -> Layered:
        """Parse into `self.config`; settings without effect are refused or dropped."""

        def parse(arguments: Sequence[str]) -> Any:
            LightningCLI.parse_arguments(self, parser, list(arguments))
            return self.config[self.config.subcommand]

        return layered(args, parse=parse, defaults=self.defaults)

    def defaults(self) -> dict[str, Any]:
        """Every setting of the command as it is where nothing sets it, by dotted name."""
        own = self._parser(self.asked).get_defaults(skip_validation=True)
        return defaults_inside() | flat(own)

    def _parse_ckpt_path(self) -> None:
        """Our checkpoints hold no settings for the parser, which would read all weights to look."""

    def _dump_config(self) -> None:
        """Lightning's text of the settings, for classes that keep theirs; none of ours does."""
        self.config_dump: dict[str, Any] = {}

    def before_instantiate_classes(self) -> None:
        """Everything that can be known to be wrong before a class is built."""
        config = self.config[self.subcommand]
        if self.subcommand == "fit" and config.resume:
            run_dir.check_plugins(Path(config.run_dir))
        say_missing_plugins(config.plugins, where="the configuration")
        # What was loaded, not what a file says.
        config.plugins = recorded_plugins()
        if config.dry_run:
            self.warnings = keep_warnings()
        check_settings(config)
        if config.resume and config.overwrite:
            raise ConfigError(
                "overwrite", "contradicts --resume", fix="leave out --overwrite, or --resume"
            )
        if self.subcommand == "fit":
            check_recipe(config)
            check_replicas(config)
            check_best(config.checkpoint.best, config.data)
            check_loggers(config.loggers)
        self._refuse_unless_dry(lambda: check_devices(config.trainer))
        check_model(config)
        for line in self.said:
            log.info("%s", line)
        if config.ckpt_path is not None:
            config.ckpt_path = state_of(config.ckpt_path)
        check_checkpoint(config.ckpt_path, config.trainer)
        self.check_state(config)
        self._refuse_unless_dry(lambda: check_writable(config.run_dir))
        if config.dry_run:
            self._refuse_unless_dry(lambda: check_not_in_use(Path(config.run_dir), self.asked))
        elif is_first_rank():
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

    def _refuse_unless_dry(self, check: Callable[[], None]) -> None:
        """Make a check; a dry run goes on when it fails, to say what else there is to say."""
        try:
            check()
        except LuffyError as error:
            if not self.config[self.subcommand].dry_run:
                raise
            self.stops.append(error)

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
            if config.dry_run:
                self._refuse_unless_dry(
                    lambda: run_dir.check_free(folder, overwrite=config.overwrite)
                )
                return
            run_dir.begin(folder, overwrite=config.overwrite)
            if is_first_rank():
                self.locks.callback(run_dir.undo_begin, folder)
            return
        saved = run_dir.find_resumed(folder, config)
        num_phases = config.data.rollout.num_phases
        if run_dir.is_finished(folder, saved, num_phases=num_phases):
            text = (
                f"resume: the run in {folder} is finished, all {num_phases} phases are trained; "
                "nothing is started. To train on, raise data.rollout.num_phases"
            )
            if config.dry_run:
                sys.stdout.write(f"{text}\nOK\n")
            else:
                log.info(text)
            sys.exit(0)
        if not config.dry_run:
            run_dir.resume(folder, saved)
        self.resumed_phase = saved.phase if saved else 0
        if saved is not None:
            config.ckpt_path = str(saved.state)
            check_checkpoint(config.ckpt_path, config.trainer)

    def instantiate_classes(self) -> None:
        """Build everything; a value that a class refuses is the user's."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise explain_refusal(str(error)) from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, or say what it would do."""
        look_again()
        config = self.config[subcommand]
        if not config.dry_run:
            super()._run_subcommand(subcommand)
            return
        from luffy_pl.run.dry_run import RunPlan, show_plan

        self.datamodule.read(subcommand)
        if subcommand == "fit" and config.ckpt_path is not None:
            state = read_data_state(config.ckpt_path)
            self._refuse_unless_dry(lambda: self.datamodule.load_state_dict(state))
        self.datamodule.teardown(subcommand)
        base = base_file(read_sources(self.args))
        plan = RunPlan(
            subcommand=subcommand,
            config=config,
            base=None if base is None else short_name(base),
            differences=different_leaves(
                self._settings(self._composed_alone(base)), self._settings(config)
            ),
            said=self.said,
            data=self.datamodule,
            policy=self.model.policy_config,
            resumed_phase=getattr(self, "resumed_phase", None),
            warnings=self.warnings,
            stops=self.stops,
        )
        show_plan(plan)

    def _composed_alone(self, base: str | None) -> Any:
        """What the base would run with if nothing was laid over it; without one, the defaults."""
        if base is None:
            return self._parser(self.asked).get_defaults(skip_validation=True)
        here = self.config
        try:
            return self._lay(self.parser, [self.asked, "--config", base]).config
        finally:
            self.config = here

    def _settings(self, config: Any) -> dict[str, Any]:
        """A configuration as plain values, without what says how a start is made."""
        text = self._parser(self.asked).dump(config, skip_unset=False, skip_validation=True)
        found = dict(leaves(yaml.safe_load(text)))
        return {
            name: value
            for name, value in found.items()
            if name not in LINKED and name.split(".")[0] not in OF_THE_START
        }

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Loggers write into the run directory; callbacks without settings are always there."""
        config = self.config[self.subcommand]
        if config.dry_run and self.stops:
            return None  # it would want the devices of the run
        if config.dry_run:
            kwargs["logger"] = False
        elif self.subcommand == "fit":
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
            if self.resumed_phase is not None:
                take_back = run_dir.settings_before(Path(composed.run_dir))
                for callback in self.trainer.callbacks:
                    if isinstance(callback, Replacement):
                        callback.take_back = take_back
            run_dir.keep_config(Path(composed.run_dir), text, phase=self.resumed_phase)

    def before_validate(self) -> None:
        """What cannot be continued is said before anything is loaded."""
        config = self.config[self.subcommand]
        folder = answers_folder(config.run_dir, str(self.subcommand))
        if config.resume and folder is not None:
            check_identity(folder, identity_of(self.datamodule, config.ckpt_path))

    before_test = before_validate


def place_of(callback: Any) -> int:
    """A phase is logged before an evaluation, which may be stopped, and before it is saved.

    Which rank is gone is found out before anything is done about it.
    """
    for place, kind in ((0, RankWatching), (1, Interruption), (3, Evaluation), (4, Checkpoint)):
        if isinstance(callback, kind):
            return place
    return 2
