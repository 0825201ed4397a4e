"""Plugin files: what is wrong with one is a line that names the file and the line in it."""

import re
from types import SimpleNamespace

import pytest

from luffy_pl import registry
from luffy_pl.callbacks.checkpoint import PhaseCheckpoint
from luffy_pl.callbacks.error_report import as_record
from luffy_pl.errors import ConfigError, VerifierError
from luffy_pl.records import Prompt
from luffy_pl.registry import (
    check_same_plugins,
    described,
    find,
    load_plugins,
    plugin_failure,
    plugins,
    take_option,
)
from luffy_pl.reward.functions import call
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.start import start_engine
from luffy_pl.run_dir.begin import with_changed_plugin

HEAD = "from luffy_pl.registry import register\n"
REWARD = HEAD + '@register("reward", "mine")\ndef mine(prompt, response):\n    return 0.25\n'


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def find_mine():
    return find("reward", "mine", where="x")


def test_a_file_that_is_named_twice_is_run_once(plugin, tmp_path):
    file = plugin(f"open({str(tmp_path / 'mark')!r}, 'a').write('x')\n" + REWARD)
    copied = plugin((tmp_path / "mine.py").read_text(), "copy.py")
    load_plugins([file, file, copied])
    assert (tmp_path / "mark").read_text() == "x"
    assert find_mine()(None, None) == 0.25
    [loaded] = plugins()
    assert loaded.path == file
    assert loaded.module.startswith("luffy_pl_plugin_")


def test_the_next_command_knows_nothing_of_the_files_of_the_last(plugin):
    load_plugins([plugin(REWARD)])
    load_plugins([plugin(REWARD.replace("0.25", "0.5"))])
    assert find_mine()(None, None) == 0.5
    load_plugins([])
    with pytest.raises(ConfigError, match="x: is no reward, got 'mine'"):
        find_mine()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = (\n", 1, "SyntaxError: '\\(' was never closed"),
        (REWARD + "\nimport no_such_module\n", 6, "ModuleNotFoundError.*no_such_module"),
        (REWARD + "\n\ndef f():\n    return {}['k']\nf()\n", 8, "KeyError"),
        ("raise SystemExit(0)\n", 1, "SystemExit"),
        ("x = 1\n", 1, "registers nothing"),
        (HEAD + "\nregister('rewards', 'x')\n", 3, "unknown kind, got 'rewards'. .* mean reward"),
        (HEAD + "register('reward', 'correct')(len)\n", 2, "'correct'.* more than once"),
        (REWARD + REWARD, 6, "'mine'.* more than once"),
        ("\0", None, "null bytes"),
    ],
)
def test_a_broken_plugin_is_one_line_with_its_place(plugin, text, line, words):
    file = plugin(text)
    place = file if line is None else f"{file}:{line}"
    with pytest.raises(ConfigError, match=f"^{place}: .*{words}") as raised:
        load_plugins([file])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "none.py", "."])
def test_a_plugin_that_is_no_file_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^--plugin: cannot be read .*Fix: name a Python file"):
        load_plugins([name])


def test_two_plugins_with_one_name_are_refused(plugin):
    with pytest.raises(ConfigError, match=r"other\.py:2: reward 'mine'.*more than once"):
        load_plugins([plugin(REWARD), plugin(REWARD.replace("0.25", "1"), "other.py")])


def test_a_plugin_and_a_package_cannot_share_a_name(plugin, install, tmp_path):
    (tmp_path / "package.py").write_text("def mine(prompt, response): return 0.0\n")
    install(tmp_path / "package.py", reward={"mine": "package:mine"})
    load_plugins([plugin(REWARD)])
    with pytest.raises(ConfigError, match="'mine' is registered more than once"):
        find_mine()


def test_a_run_that_goes_on_wants_the_same_plugins(plugin):
    load_plugins([plugin(REWARD)])
    recorded = registry.recorded_plugins()
    check_same_plugins(recorded, where="run")
    load_plugins([plugin(REWARD, "moved.py")])
    check_same_plugins(recorded, where="run")
    load_plugins([])
    with pytest.raises(ConfigError, match=r"^run: .*Fix: add --plugin .*mine\.py"):
        check_same_plugins(recorded, where="run")
    load_plugins([plugin(REWARD + "\n")])
    [now] = plugins()
    with pytest.raises(ConfigError, match=f"{recorded[0]['sha256']}, got '{now.sha256}'"):
        check_same_plugins(recorded, where="run")
    with pytest.raises(ConfigError, match="Fix: give the file as it was, or think again"):
        check_same_plugins(recorded, where="run", otherwise="think again")
    for broken in ([5], [{"path": "x"}], ["x"]):
        with pytest.raises(ConfigError, match="run: plugins: is broken"):
            check_same_plugins(broken, where="run")


def test_code_that_was_corrected_goes_on_in_a_new_folder(tmp_path):
    assert with_changed_plugin(tmp_path) == "begin again with --overwrite"
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert f"--ckpt_path {last} --run_dir NEW" in with_changed_plugin(tmp_path)


def test_an_error_of_a_plugin_names_its_line(plugin):
    file = plugin(REWARD.replace("return 0.25", "return [][0]"))
    load_plugins([file])
    with pytest.raises(
        VerifierError, match=re.escape(f"IndexError: list index out of range ({file}:4)")
    ):
        call(find_mine(), None, None, prompt=Prompt("a", "b", (), "c", "d"), where="x")
    assert described(ValueError("elsewhere")) == "ValueError: elsewhere"


def test_a_defect_of_a_plugin_is_told_from_one_of_ours(plugin):
    def raised(body):
        file = plugin(
            HEAD + f'@register("reward", "mine")\ndef mine(prompt, response):\n    {body}\n'
        )
        load_plugins([file])
        with pytest.raises(Exception) as caught:
            find_mine()(None, None)
        return file, caught.value

    for body in ("raise KeyError('a')", "__import__('json').loads('{')"):
        file, error = raised(body)
        error.add_note("traceback: x")
        found = plugin_failure(error)
        assert str(found).startswith(f"{file}:4: the plugin fails, got ")
        assert str(found).endswith("Fix: correct the file (traceback: x)")
        assert as_record(error)["where"] == f"{file}:4"
    ours = raised("__import__('luffy_pl.records').records.Prompt(1)")[1]
    assert isinstance(ours, TypeError)
    _, ours = raised("__import__('luffy_pl.registry').registry.take_option(5, 6)")
    assert plugin_failure(ours) is None
    assert as_record(ours)["exit_code"] == 1


def test_an_engine_that_is_not_returned_is_one_line(plugin):
    load_plugins([plugin(HEAD + 'register("engine", "none")(lambda *_: None)')])
    with pytest.raises(ConfigError, match="none returns no engine"):
        start_engine("model", EngineConfig(kind="none"), stop_token_ids=[])


def test_the_command_that_continues_names_the_plugins(plugin, caplog):
    file = plugin(REWARD)
    load_plugins([file])
    trainer = SimpleNamespace(
        world_size=1, validating=False, is_global_zero=True, default_root_dir="run",
        state=SimpleNamespace(fn="fit"),
    )  # fmt: skip
    with caplog.at_level("INFO", "luffy_pl"):
        PhaseCheckpoint().on_exception(
            trainer, SimpleNamespace(phases_trained=0), VerifierError("a", "b", fix="c")
        )
    assert caplog.messages[-1].endswith(f"luffy-pl fit --resume --run_dir run --plugin {file}")


def test_a_repeatable_option_is_taken_out_of_a_command_line():
    argv = ["fit", "--plugin", "a", "--plugins", "--plugin=b=c", "--x", "--plugin"]
    assert take_option(argv, "--plugin") == (["fit", "--plugins", "--x"], ["a", "b=c", ""])
