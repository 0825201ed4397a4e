"""`make dist`: build, check, install into an empty environment, and train a phase with it.

Archive and wheel are in dist/. The wheel is made from the archive, so what that lacks is
missed here. The environment gets requirements-hf.lock, where vLLM is not needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
NEEDED = (
    "py.typed", "conf/quickstart.yaml", "conf/template/think.jinja", "model/card.md.jinja",
    "miniature/world/train.jsonl", "miniature/more/middle/train.jsonl", "project/README.md.jinja",
    "report/published.csv",
)  # fmt: skip
QUICKSTART = (
    "quickstart", "--data.engine.kind", "hf", "--data.rollout.num_phases", "1",
    "--evaluation.before_training", "false", "--data.benchmarks", "[]",
)  # fmt: skip


def main() -> int:
    """Everything; the first thing that fails ends it."""
    for folder in (DIST, ROOT / "build"):
        shutil.rmtree(folder, ignore_errors=True)
    archive = build_archive(ROOT, DIST)
    wheel = build_wheel(archive, DIST)
    check(wheel)
    check_for_an_index(archive, wheel)
    try_out(wheel)
    sys.stdout.write(f"built and tried: {archive.name}, {wheel.name}\n")
    return 0


def build_archive(root: Path, out: Path) -> Path:
    """The source archive of a clone, in a folder."""
    out.mkdir(exist_ok=True)
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    run("-W", "ignore", "-c", program, cwd=root)
    [archive] = out.glob("*.tar.gz")
    return archive


def build_wheel(archive: Path, out: Path) -> Path:
    """The wheel, from what is in the archive alone."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    run("-m", "pip", "wheel", *options, archive)
    [wheel] = out.glob("*.whl")
    return wheel


def check(wheel: Path) -> None:
    """Whether the wheel has what the package reads at run time."""
    names = set(zipfile.ZipFile(wheel).namelist())
    if lost := [name for name in NEEDED if f"luffy_pl/{name}" not in names]:
        raise SystemExit(f"{wheel.name} lacks {', '.join(lost)}")


def check_for_an_index(*files: Path) -> None:
    """What a package index would refuse."""
    if find_spec("twine") is None:
        sys.stdout.write("twine is not installed: what it checks is not checked\n")
        return
    run("-m", "twine", "check", "--strict", *files)


def try_out(wheel: Path) -> None:
    """Install into an empty environment, and train a phase in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment, work = Path(folder) / "environment", Path(folder) / "work"
        run("-m", "venv", environment)
        python = environment / "bin" / "python"
        pip = ["-m", "pip", "install", "--quiet", "--no-deps"]
        run(*pip, "-r", ROOT / "requirements-hf.lock", python=python)
        run(*pip, wheel, python=python)
        work.mkdir()
        run("-m", "luffy_pl.cli", *QUICKSTART, python=python, cwd=work)


def run(*words: str | Path, python: str | Path = sys.executable, cwd: Path = ROOT) -> None:
    """A Python command, which has to succeed."""
    command: Sequence[str] = [str(python), *map(str, words)]
    if (code := subprocess.run(command, cwd=cwd, check=False).returncode) != 0:
        raise SystemExit(f"exit code {code}: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
