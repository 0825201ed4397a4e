"""What becomes of wrong settings and broken files: `python tests/fuzz/run.py --seed 1`.

Each is a dry run of the quickstart in a fork of its own. Right is: it goes through, or it is
refused in one line with an exit code of errors.py. A defect, a traceback, a death and a run that
does not end are wrong, and are printed with their arguments.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from forks import Client, Server  # noqa: E402

from fuzz.broken_data import broken_data  # noqa: E402
from fuzz.wrong_settings import wrong_settings  # noqa: E402

LIMIT_S = 120
DRY_RUN = [
    "fit", "--config", "conf/quickstart.yaml", "--dry_run", "true", "--data.engine.kind", "hf",
    "--data.rollout.prompts_per_phase", "4",
]  # fmt: skip
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Outcome:
    """What became of one case; `line` is what it said of it."""

    kind: str
    name: str
    outcome: str
    line: str

    @property
    def is_right(self) -> bool:
        """It went through, or was refused."""
        return self.outcome == "ok" or self.outcome.startswith("refused")


def judged(code: int, stderr: str) -> tuple[str, str]:
    """The outcome of an exit code and what was printed, and the line that says so."""
    errors = [line for line in stderr.splitlines() if line.startswith("luffy-pl: error")]
    last = errors[-1] if errors else (stderr.splitlines() or [""])[-1]
    if "Traceback" in stderr:
        return "traceback", last
    if code == 0:
        return "ok", ""
    if code < 0:
        return f"died of signal {-code}", last
    if 2 <= code <= 9 and len(errors) == 1 and f"[{code}]" in errors[0] and "Fix: " in errors[0]:
        return f"refused {code}", last
    return "a defect" if code == 1 else f"exit {code}, not in one line", last


def outcomes(
    client: Client, cases: Iterable[tuple[str, list[str]]], *, kind: str, folder: Path
) -> list[Outcome]:
    """Run each case; `folder` is where the commands run."""
    found = []
    for name, args in cases:
        with tempfile.TemporaryFile("w+", errors="replace") as stderr:
            process = client.start(
                [*DRY_RUN, *args], cwd=folder, env=OFFLINE, stderr=stderr, with_vllm=False
            )
            try:
                code = process.wait(LIMIT_S)
                stderr.seek(0)
                outcome, line = judged(code, stderr.read())
            except subprocess.TimeoutExpired:
                process.kill()
                outcome, line = "no end", ""
        found.append(Outcome(kind, name, outcome, line))
    return found


def fuzz(client: Client, folder: Path, *, settings: int, files: int, seed: int) -> list[Outcome]:
    """All outcomes; the commands run in `folder`, which links conf."""
    data = folder / "broken"
    data.mkdir()
    return [
        *outcomes(client, wrong_settings(settings, seed=seed), kind="settings", folder=folder),
        *outcomes(client, broken_data(files, seed=seed, folder=data), kind="files", folder=folder),
    ]


def table(found: list[Outcome]) -> list[str]:
    """How often each outcome came, then what was wrong."""
    counts = Counter((one.kind, one.outcome) for one in found)
    rows = [
        f"{kind:<10} {outcome:<28} {count:>4}" for (kind, outcome), count in sorted(counts.items())
    ]
    wrong = [f"{one.outcome}: {one.name}\n    {one.line}" for one in found if not one.is_right]
    return [*rows, *wrong]


def main() -> int:
    """Print the table; 1 if anything in it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=300)
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luffy-") as name:
        folder = Path(name)
        (folder / "conf").symlink_to(ROOT / "conf")
        server = Server(folder)
        try:
            found = fuzz(
                Client(folder), folder, settings=args.settings, files=args.files, seed=args.seed
            )
        finally:
            server.close()
    sys.stdout.write("\n".join(table(found)) + "\n")
    return int(not all(one.is_right for one in found))


if __name__ == "__main__":
    sys.exit(main())
