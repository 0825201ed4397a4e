"""Locks, version and archive, as far as they can be known without the package index."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from scripts import load

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"cpu": (), "hf": ("lora", "dev"), "gpu": ("gpu", "lora")}


@pytest.fixture(scope="module")
def locks():
    return load("release", "locks.py")


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_holds_what_the_project_asks_for(locks, name, system):
    lock = locks.pins(ROOT / f"requirements-{name}.lock", system=system)
    for line in locks.wanted(EXTRAS[name]):
        wanted = Requirement(line)
        version = lock[locks.canonical(wanted.name)]
        assert wanted.specifier.contains(version, prereleases=True), line


def test_what_each_lock_is_for(locks):
    cpu, hf, gpu = (locks.pins(ROOT / f"requirements-{name}.lock") for name in EXTRAS)
    assert not [name for name in hf if name.startswith(("vllm", "intel", "nvidia", "triton"))]
    assert hf.items() <= cpu.items()
    mac = locks.pins(ROOT / "requirements-hf.lock", system="darwin")
    assert mac["torch"] == gpu["torch"] == hf["torch"].removesuffix("+cpu")
    assert gpu["vllm"] in SpecifierSet("~=0.32.0")
    assert any(name.startswith("nvidia-") for name in gpu)
    [cuda] = [version for name, version in gpu.items() if name == "cuda-toolkit"]
    assert cuda.startswith("13."), "docs/install.md and docker/Dockerfile name CUDA 13"


def test_a_lock_names_no_place(locks):
    for name in EXTRAS:
        for line in (ROOT / f"requirements-{name}.lock").read_text().splitlines():
            pin = re.fullmatch(r'[\w.-]+==[\w.+!-]+( ; sys_platform == "(linux|darwin)")?', line)
            assert pin or line.startswith("# "), line


def test_the_lock_without_vllm_is_complete(locks):
    """What its packages depend on is in it, on every Python that is supported."""
    lock = locks.pins(ROOT / "requirements-hf.lock")
    assert locks.closure(locks.wanted(EXTRAS["hf"])) == lock.keys()


def test_the_version_is_said_once_and_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    [first] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:1]
    assert first == PROJECT["version"]


def test_publishing_waits_for_a_maintainer():
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    workflow = yaml.safe_load(text)
    build, upload = workflow["jobs"]["build"], workflow["jobs"]["upload"]
    assert build["if"] == "vars.PUBLISH == 'true'"
    assert upload["needs"] == "build"
    assert workflow["permissions"] == {"contents": "read"}
    assert upload["permissions"] == {"id-token": "write"}
    assert not re.search(r"secrets\.|password:|token: [^w]", text)
