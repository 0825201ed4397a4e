"""Names of f22e8fd, the last version before the rooms were named, still lead to what they named."""

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from luffy_pl.process import moved

OLD_MODULES = Path(__file__).with_name("modules_f22e8fd.txt").read_text().split()
MOVED = [
    ("luffy_pl.training.offload", "luffy_pl.policy.offload", "OffloadStrategy"),
    ("luffy_pl.training.settings", "luffy_pl.policy.settings", "PolicyConfig"),
    ("luffy_pl.training.settings", "luffy_pl.objective.settings", "ObjectiveConfig"),
    ("luffy_pl.guards", "luffy_pl.process.safe_start", "make_start_safe"),
    ("luffy_pl.guards", "luffy_pl.config.guards", "check_config_file"),
    ("luffy_pl.data.collate", "luffy_pl.training.micro_batches", "micro_batch_rows"),
    ("luffy_pl.data.phases", "luffy_pl.experience.policy_view", "PolicyView"),
    ("luffy_pl.estimate.command", "luffy_pl.run.estimate_command", "main"),
    ("luffy_pl.teacher.settings", "luffy_pl.traces.settings", "TeacherConfig"),
    ("luffy_pl.evaluation.page.embed", "luffy_pl.report.page.embed", "json_block"),
    ("luffy_pl.run", "luffy_pl.run.command", "LuffyCLI"),
    ("luffy_pl.run_dir", "luffy_pl.run_dir.begin", "keep_config"),
]


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(moved, "_told", set())


@pytest.mark.parametrize("old", OLD_MODULES)
def test_every_module_has_a_home(old):
    assert find_spec(old) is not None
    assert find_spec(moved.MODULES.get(old, old)).has_location


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_is_the_new_one_and_one_line_says_it(caplog, old, new, name):
    found = getattr(importlib.import_module(old), name)
    getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)
    [line] = caplog.messages
    assert line.startswith(f"{old}.{name} is now {new}.{name};")


@pytest.mark.parametrize(("old", "new"), moved.NAMES.items())
def test_every_name_that_moved_alone_is_there(old, new):
    (old_module, old_name), (new_module, new_name) = (name.rsplit(".", 1) for name in (old, new))
    found = getattr(importlib.import_module(old_module), old_name)
    assert found is getattr(importlib.import_module(new_module), new_name)


def test_import_statements(caplog):
    from luffy_pl.teacher import settings

    from luffy_pl import teacher
    from luffy_pl.answer import units as new_units
    from luffy_pl.reward import units
    from luffy_pl.traces import settings as new_settings

    assert teacher.settings is settings
    assert caplog.messages == []
    assert settings.TeacherConfig is new_settings.TeacherConfig
    assert units.split_unit is new_units.split_unit
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "import luffy_pl.training.unknown",
        "import luffy_pl.teacher.unknown",
        "from luffy_pl.training.offload import Unknown",
        "from luffy_pl.training.settings import Unknown",
        "from luffy_pl.run import unknown",
    ],
)
def test_what_never_was_is_an_import_error(statement):
    with pytest.raises(ImportError, match=r"[Uu]nknown"):
        exec(statement)


def test_a_new_name_loads_no_other_home():
    code = """
import sys
from luffy_pl.run import completion
from luffy_pl.run_dir import begin
hasattr(sys.modules["luffy_pl.run"], "__all__")
print("luffy_pl.run.command" in sys.modules, begin.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False luffy_pl.run_dir.begin\n", "")


def test_a_configuration_may_name_a_class_by_its_old_path(command_line, tmp_path, recwarn):
    old = "luffy_pl.training.offload.OffloadStrategy"
    new = "luffy_pl.policy.offload.OffloadStrategy"
    overlay = tmp_path / "offload.yaml"
    overlay.write_text(f"trainer: {{strategy: {{class_path: {old}}}}}\n")
    fit = ["fit", "--config", "conf/quickstart.yaml", "--config", overlay]
    done = command_line(*fit, "--print_config")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if old in line]
    assert line.startswith(f"{old} is now {new};")
    # config.yaml is written in the same way.
    assert f"class_path: {new}\n" in done.stdout
    assert old not in done.stdout
    done = command_line(*fit, "--run_dir", tmp_path / "run", "--dry_run", "true")
    assert done.returncode == 0, done.stderr
    assert not [str(warning) for warning in recwarn if "luffy_pl" in warning.filename]
