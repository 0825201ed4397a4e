"""Every command of the README is run by some test."""

import subprocess

from readme_commands import README, RUN_BY, commands

ROOT = README.parent


def test_every_command_has_its_test():
    for name, where in RUN_BY.items():
        if where.endswith(".py") and where != "test_readme.py":
            text = (ROOT / "tests" / where).read_text()
            assert f'"{name}"' in text, f"{where} does not run {commands()[name]}"


def last_step(target):
    """The last command that `make TARGET` would run."""
    plan = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return plan.stdout.strip().splitlines()[-1]


def test_make_quickstart_is_the_command_the_tests_run():
    assert commands()["quickstart"] == "make quickstart"
    assert last_step("quickstart") == (
        ".venv/bin/luffy-pl fit --config conf/quickstart.yaml --overwrite"
    )


def test_make_test_runs_pytest():
    assert commands()["test"] == "make test"
    assert "-m pytest" in last_step("test")


def test_the_recipe_of_the_paper_composes(command_line):
    program, *args = commands()["luffy"].split()
    assert program == ".venv/bin/luffy-pl"
    assert "Elliott/Qwen2.5-Math-7B-16k-think" in command_line(*args).stdout


def test_links_lead_somewhere():
    import re

    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target
