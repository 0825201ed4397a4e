"""The locks: `make locks` writes two of them, `make check-locks` resolves all three.

    requirements-cpu.lock  Linux on x86-64, vLLM for CPUs; kept by hand, since no index resolves it
    requirements-hf.lock   Linux and macOS without vLLM: the pins of the one above that are needed
    requirements-gpu.lock  Linux with NVIDIA GPUs: vLLM, torch and the libraries of CUDA 13

pip only plans here (`--dry-run --report`): nothing is installed, for whatever Python and system.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11.5", "3.12", "3.13")
"""The oldest release of each that every pin takes."""
TORCH, CPU_TORCH = "torch", "+cpu"
LINUX, MAC = "manylinux_2_35_x86_64", "macosx_14_0_arm64"
OLDER_LINUX = ("manylinux2014_x86_64", *(f"manylinux_2_{n}_x86_64" for n in range(34, 4, -1)))
HF_EXTRAS, GPU_EXTRAS = ("lora", "dev"), ("gpu", "lora")


class Target(NamedTuple):
    """What a lock is resolved for."""

    python: str
    platform: str

    def options(self) -> list[str]:
        """For pip, which takes wheels alone for another system."""
        platforms = (self.platform, *(OLDER_LINUX if self.platform == LINUX else ()))
        return [
            "--python-version", self.python, "--implementation", "cp", "--only-binary", ":all:",
            *(word for one in platforms for word in ("--platform", one)),
            "--target", "/nonexistent",
        ]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """`write` the locks, or `check` them."""
    match list(argv):
        case ["write"]:
            return write()
        case ["check"]:
            return check()
        case _:
            sys.stderr.write("usage: locks.py write|check\n")
            return 2


def write() -> int:
    """Both, that of GPUs resolved by pip."""
    write_hf()
    try:
        found = resolve(wanted(GPU_EXTRAS), Target("3.12", LINUX))
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr)
        return 1
    lines = [f"{name}=={version}" for name, version in found.items()]
    save("gpu", "For NVIDIA GPUs: CUDA 13, driver 580 or newer", lines)
    return 0


def write_hf() -> None:
    """The lock without vLLM: the versions of that for CPUs."""
    cpu = pins(ROOT / "requirements-cpu.lock")
    needed = closure(wanted(HF_EXTRAS))
    save("hf", "Without vLLM, for Linux and macOS", [
        *(f"{name}=={cpu[name]}" for name in sorted(needed - {TORCH})),
        f'{TORCH}=={cpu[TORCH]} ; sys_platform == "linux"',
        f'{TORCH}=={cpu[TORCH].removesuffix(CPU_TORCH)} ; sys_platform == "darwin"',
    ])  # fmt: skip


def closure(requirements: Sequence[str]) -> set[str]:
    """Names of all that these need, on any system and Python that is supported.

    It follows what is installed here, so the lock for CPUs has to be.
    """
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        one = waiting.pop()
        key = canonical(one.name), frozenset(one.extras)
        if key not in seen:
            seen.add(key)
            inner = map(Requirement, distribution(one.name).requires or ())
            waiting += [each for each in inner if is_needed(each, one.extras)]
    return {name for name, _ in seen}


def is_needed(requirement: Requirement, extras: Collection[str]) -> bool:
    """Whether some supported system needs it; libraries of CUDA come with torch's other builds."""
    if requirement.marker is None:
        return True
    # One system is enough: what Linux has beside the others are libraries of CUDA.
    system = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}
    return any(
        requirement.marker.evaluate({**system, "python_version": python[:4], "extra": extra})
        for python in PYTHONS
        for extra in ("", *extras)
    )


def check() -> int:
    """Whether pip finds a wheel for every pin, and nothing that a lock leaves out."""
    failed = 0
    for name, platform in (("cpu", LINUX), ("hf", LINUX), ("hf", MAC), ("gpu", LINUX)):
        file = ROOT / f"requirements-{name}.lock"
        for python in PYTHONS:
            system = "darwin" if platform == MAC else "linux"
            lock, target = pins(file, system=system), Target(python, platform)
            problem = misfit(lock, target, is_whole=name == "gpu")
            sys.stdout.write(f"{file.name} {python} {platform}: {problem or 'resolves'}\n")
            failed += problem is not None
    return min(failed, 1)


def misfit(lock: Mapping[str, str], target: Target, *, is_whole: bool) -> str | None:
    """Why a lock does not resolve; None if it does.

    Args:
        is_whole: what its packages depend on has to be in it, and to fit.
    """
    # No index that pip asks by default has torch's build for CPUs.
    lines = [f"{n}=={v}" for n, v in lock.items() if not v.endswith(CPU_TORCH)]
    try:
        found = resolve(lines, target, options=() if is_whole else ("--no-deps",))
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip().splitlines()[-1]
    if unlocked := sorted(found.keys() - lock.keys()):
        return f"leaves out {', '.join(unlocked)}"
    return None


def resolve(
    requirements: Sequence[str], target: Target, *, options: Sequence[str] = ()
) -> dict[str, str]:
    """Name to version of all that pip would install."""
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
        "--report", "-", *target.options(), *options, *requirements,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    found = (one["metadata"] for one in report["install"])
    return {canonical(one["name"]): one["version"] for one in sorted(found, key=by_name)}


def by_name(metadata: Mapping[str, str]) -> str:
    """The order of a lock."""
    return canonical(metadata["name"])


def wanted(extras: Sequence[str]) -> list[str]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def pins(file: Path, *, system: str = "linux") -> dict[str, str]:
    """Name to version of a lock on a system."""
    return dict(_pins(file.read_text().splitlines(), system))


def _pins(lines: Sequence[str], system: str) -> Iterator[tuple[str, str]]:
    for line in lines:
        pin, _, marker = line.partition(";")
        name, _, version = pin.strip().partition("==")
        if version and (not marker or f'"{system}"' in marker):
            yield canonical(name), version


def canonical(name: str) -> str:
    """As the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def save(name: str, title: str, lines: Sequence[str]) -> None:
    """A lock; pip installs it with `--no-deps`, since it is complete."""
    head = f"# {title}. Made by make locks; install with pip install --no-deps -r.\n"
    (ROOT / f"requirements-{name}.lock").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
