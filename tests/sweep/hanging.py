"""A sweep in a process of its own, one of whose cells does not end."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from sweep.fake_cell import FAKE

HANGING = {"good": {}, "hang": {"set": {"fake.do": "hang"}}, "last": {}}


def sweep_process(path, tmp_path, cell, *, launcher="local"):
    """A sweep in a process group of its own, returned when the cell hangs; and the cell's id."""
    program = f"""
        import sys
        from types import SimpleNamespace
        from luffy_pl.cli import main
        from luffy_pl.sweep import launch_slurm, plan
        plan.PROGRAM = {FAKE!r}
        sys.modules["luffy_pl.sweep.check"] = SimpleNamespace(check_cells=lambda cells, grid: None)
        launch_slurm.CLUSTER, launch_slurm.POLL_S = "local", 0.1
        sys.exit(main(["sweep", {str(path)!r}, "--launcher", {launcher!r}]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    file = tmp_path / "runs" / cell / "pid"
    deadline = time.monotonic() + 60
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, int(file.read_text())


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie waits for whoever adopted it.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
