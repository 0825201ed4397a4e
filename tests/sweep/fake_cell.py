"""Stands in for `luffy-pl fit`: leaves the files of a run, or does what --fake.do says."""

import json
import os
import sys
import time
from pathlib import Path

PHASES = 4
FAKE = (sys.executable, __file__)
OPTIONS = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv if "=" in arg)


def main():
    run_dir, seed = Path(OPTIONS["run_dir"]), int(OPTIONS["seed_everything"])
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "attempts.jsonl").open("a") as file:
        how = {name: OPTIONS.get(name) for name in ("resume", "overwrite")}
        file.write(json.dumps({**how, "threads": os.environ["OMP_NUM_THREADS"]}) + "\n")
    what = OPTIONS.get("fake.do")
    if what == "crash":
        sys.exit("luffy-pl: error [3] no.jsonl: \x1b[31mdoes not exist")
    if what == "hang":
        (run_dir / "checkpoints").mkdir(exist_ok=True)
        (run_dir / "checkpoints" / "last.ckpt").touch()
        (run_dir / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    write_run(run_dir, accuracy=float(OPTIONS.get("fake.accuracy", 0.5)) + 0.1 * seed)


def write_run(run_dir, *, accuracy):
    """Entropies 1, 2, 3, 4 by phase; accuracy 0.25 before."""
    run_dir.mkdir(parents=True, exist_ok=True)
    metrics = [
        {
            "step": phase,
            "on_off_metrics/on_score": accuracy * phase / PHASES,
            "entropy/rollout_nats": float(phase),
            "on_off_metrics/on_response_length_mean": 10.0 * phase,
            "ledger/generated_tokens": 100.0 * phase,
            "ledger/model_flops": 1e12 * phase,
        }
        for phase in range(1, PHASES + 1)
    ]
    rows = [
        {"phase": phase, "benchmark": name, "n": 20, "k": 1, "avg": avg, "low": avg - 0.1,
         "high": avg + 0.1, "temperature": 0.0, "pass": avg, "tokens_correct": 40.0,
         "tokens_incorrect": None}
        for phase, avg in ((0, 0.25), (PHASES, accuracy))
        for name in ("heldout", "longer")
    ]  # fmt: skip
    for name, lines in (("metrics", metrics), ("evaluation", rows)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run_dir / f"{name}.jsonl").write_text(text)


if __name__ == "__main__":
    main()
