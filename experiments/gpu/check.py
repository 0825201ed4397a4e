r"""Whether a GPU computes what the CPU does, and how fast: one command, at most ten minutes.

    make gpu-check
    python experiments/gpu/check.py [--device cuda] [--within 600] [--only NAME ...] [--out FOLDER]

Each check is a process of its own, so that a GPU that fails in one of them is sound in the next.
Without a GPU, what a CPU can run is run, on smaller sizes, and the report says so. vLLM, flash-attn
and TRL are tried where they are installed. The report is `report.json` and `report.md` in the
folder; the exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import learner
import runs
import speed
from skipping import Skipped

Figures = dict[str, Any]
CHECKS: dict[str, Callable[[str], Figures]] = {
    **learner.CHECKS,
    **speed.CHECKS,
    **runs.CHECKS,
}
MOST_S = 240
"""Longest time of a check."""
PACKAGES = ("torch", "transformers", "lightning", "vllm", "flash-attn", "trl")


def main() -> int:
    """Run all checks, or one in this process; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is one")
    parser.add_argument("--within", type=float, default=600, help="seconds; none begins later")
    parser.add_argument("--only", nargs="*", choices=CHECKS, default=list(CHECKS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"))
    parser.add_argument("--here", action="store_true", help="one check in this process")
    args = parser.parse_args()
    import torch

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.here:
        sys.stdout.write("\n" + json.dumps(measured(args.only[0], device)) + "\n")
        return 0
    began_s = time.monotonic()
    found = {}
    for name in args.only:
        left_s = args.within - (time.monotonic() - began_s)
        found[name] = run(name, device, most_s=min(MOST_S, left_s))
        sys.stdout.write(line(name, found[name]) + "\n")
        sys.stdout.flush()
    report = {"device": device, **machine(device), "checks": found}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "report.md").write_text(table(report))
    return int(any(one["status"] == "failed" for one in found.values()))


def measured(name: str, device: str) -> Figures:
    """What one check finds; why it is left out, if it is."""
    try:
        return {"status": "passed", **CHECKS[name](device)}
    except Skipped as reason:
        return {"status": "skipped", "reason": str(reason)}


def run(name: str, device: str, *, most_s: float) -> Figures:
    """What one check finds in a process of its own."""
    if most_s < 5:
        return {"status": "skipped", "reason": "no time left (--within)"}
    command = [sys.executable, __file__, "--here", "--only", name, "--device", device]
    began_s = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=most_s, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"not done after {most_s:.0f} s", "seconds": most_s}
    seconds = round(time.monotonic() - began_s, 1)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        return {"status": "failed", "reason": said.splitlines()[-1][:300], "seconds": seconds}
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "seconds": seconds}


def machine(device: str) -> Figures:
    """What it ran on."""
    import torch

    found: Figures = {"python": platform.python_version(), "packages": {}}
    for package in PACKAGES:
        try:
            found["packages"][package] = version(package)
        except PackageNotFoundError:
            continue
    if device == "cuda":
        found |= {
            "name": torch.cuda.get_device_name(),
            "memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1),
            "cuda": torch.version.cuda,
        }
    return found


def line(name: str, found: Figures) -> str:
    """One check as a person reads it."""
    figures = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in found.items()
        if key not in ("status", "reason", "seconds")
    ]
    told = found.get("reason", "; ".join(figures))
    return f"{name:<24}{found['status']:<9}{found.get('seconds', 0):>7.1f} s  {told}"


def table(report: Figures) -> str:
    """The report in Markdown."""
    packages = ", ".join(f"{name} {number}" for name, number in report["packages"].items())
    where = report.get("name", "a CPU: nothing is claimed of GPUs")
    rows = [line(name, found) for name, found in report["checks"].items()]
    return "\n".join([f"# GPU check on {where}", "", packages, "", "```", *rows, "```", ""])


if __name__ == "__main__":
    sys.exit(main())
