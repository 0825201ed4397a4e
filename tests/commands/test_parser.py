"""Commands beside runs: switches, and one line for each mistake."""

from pathlib import Path

import pytest

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError


def parser():
    made = CommandParser(prog="luffy-pl view")
    made.add_argument("runs", nargs="+", type=Path)
    made.add_argument("--serve", action="store_true")
    made.add_argument("--port", type=int, default=8000)
    made.add_argument("--over", choices=["phase", "flops"])
    made.add_argument("--html", type=Path, metavar="FILE")
    return made


@pytest.mark.parametrize(("words", "serves"), [
    ([], False),
    (["--serve"], True),
    (["--serve", "true"], True),
    (["--serve=true"], True),
    (["--serve", "false"], False),
    (["--serve=false"], False),
])  # fmt: skip
def test_a_switch_takes_true_and_false(words, serves):
    for line in (["run", *words], [*words, "run/"]):
        args = parser().parse_args(line)
        assert (args.serve, len(args.runs)) == (serves, 1)


@pytest.mark.parametrize(("words", "where", "what", "fix"), [
    ([], "luffy-pl view", "needs runs", "luffy-pl view [--serve]"),
    (["run", "--prot", "1"], "--prot", "no option", "did you mean --port?"),
    (["run", "--zzz"], "--zzz", "no option", "see luffy-pl view --help"),
    (["run", "--port"], "--port", "has no value", "--port"),
    (["run", "--port", "x"], "--port", "must be a whole number", "write a whole number"),
    (["run", "--over", "flop"], "--over", "must be one of phase, flops", "did you mean flops?"),
    (["run", "--serve", "maybe"], "--serve", "is on or off", "--serve or --serve false"),
    # An abbreviation would mean something else when an option is added.
    (["run", "--por", "1"], "--por", "no option", "did you mean --port?"),
])  # fmt: skip
def test_a_mistake_says_what_where_and_how_to_fix_it(words, where, what, fix):
    with pytest.raises(ConfigError) as caught:
        parser().parse_args(words)
    assert caught.value.where == where
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_verb_has_its_own_options():
    made = CommandParser(prog="luffy-pl bench")
    verb = made.add_subparsers(required=True, dest="kind").add_parser("sync")
    verb.add_argument("--table", action="store_true")
    assert made.parse_args(["sync", "--table", "true"]).table
    with pytest.raises(ConfigError, match="did you mean sync"):
        made.parse_args(["snyc"])
    with pytest.raises(ConfigError, match="needs kind"):
        made.parse_args([])
