"""Files of others that pages embed are those that were fetched, with their licences."""

import hashlib
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("luffy_pl/report/page/third_party", "docs/third_party")
# KaTeX's package says that it is MIT; its fonts name the Open Font License in their tables.
OURS = {"manifest.json", "katex-fonts.LICENSE"}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_have_the_hashes_of_the_manifest(name):
    folder = ROOT / name
    packages = json.loads((folder / "manifest.json").read_text())
    hashes = {file: sha256 for one in packages for file, sha256 in one["sha256"].items()}
    assert {file.name for file in folder.iterdir()} - OURS == set(hashes)
    for file, sha256 in hashes.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == sha256, file
    for one in packages:
        assert "LICENSE" in "".join(one["sha256"]), one["name"]
        assert "Permission is hereby granted" in (folder / f"{one['name']}.LICENSE").read_text()


def test_they_are_small_offline_and_in_the_package():
    folder = ROOT / FOLDERS[0]
    files = [file for file in folder.iterdir() if file.suffix in (".js", ".css")]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        text = file.read_text()
        # Nothing ends the element it stands in, and no style loads a file.
        assert "</script" not in text.lower()
        assert "</style" not in text.lower()
        assert "url(" not in text.replace("url(data:", "") or file.suffix == ".js"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert f"{FOLDERS[0].removeprefix('luffy_pl/')}/*" in settings["package-data"]["luffy_pl"]
