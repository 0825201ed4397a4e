"""The configuration of a run, composed and checked without building or seeding anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luffy_pl.config.cross_checks import check_settings
from luffy_pl.errors import ConfigError
from luffy_pl.run.command import main
from luffy_pl.run.lightning_cli import LuffyCLI


class Composed(Exception):
    """The configuration is right; nothing is to be built."""

    def __init__(self, config: Any) -> None:
        self.config = config
        super().__init__("composed")


class Composition(LuffyCLI):
    """Parses and checks as a run does, and stops there.

    The devices are not looked at: the run may be meant for another machine.
    """

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Compose, let the records check their bounds, compare the sections, stop."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        try:
            parser.instantiate(self.config)
        except ValueError as error:
            raise ConfigError("configuration", str(error), fix="correct the value") from error
        check_settings(config)
        raise Composed(config)


class DefaultSettings(LuffyCLI):
    """Stops where the settings of a run are known, before any is read."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Only look at the parser."""
        raise Composed(self.defaults())


def default_settings() -> dict[str, Any]:
    """What a run of `fit` takes where nothing is set, by dotted name."""
    try:
        main(["fit"], cli=DefaultSettings)
    except Composed as composed:
        return dict(composed.config)
    raise AssertionError("looking at the parser ends in Composed")


def compose(arguments: Sequence[str]) -> Any:
    """What `luffy-pl ARGUMENTS` would run with, as nested namespaces; errors are those of a run."""
    try:
        main(arguments, cli=Composition)
    except Composed as composed:
        return composed.config
    raise AssertionError("parsing a configuration ends in Composed or in an error")
