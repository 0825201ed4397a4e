"""A grader for programs: an answer runs on the tests of its row, apart from everything. Linux only.

The column `tests` of a row is a list of {"input": text, "output": text}. The last Python block of
an answer is run once for each, and what it prints has to be the output. What is right is decided
here: the program sees the input alone.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from luffy_pl.errors import ConfigError
from luffy_pl.records import Prompt, Verdict
from luffy_pl.registry import register
from luffy_pl.reward.reward import RewardConfig
from luffy_pl.reward.row_verifier import RowVerifier

BLOCK = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)
MAX_CHARACTERS, MAX_BYTES = 20_000, 1_000_000
# Neither network nor processes of others, and none of its own is left behind.
APART = [
    "unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
    # The shell keeps what the program says on stderr from what these commands say.
    "sh", "-c", 'exec "$@" 2>/dev/null', "sh",
    "prlimit", "--cpu=5", "--as=1073741824", f"--fsize={MAX_BYTES}", "--nofile=64", "--nproc=64",
    "--core=0", sys.executable, "-I", "-S",
]  # fmt: skip


def run(program: str, given: str, timeout_s: int) -> tuple[int, str, str]:
    """Exit code, what the program printed, and what kept it from running."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        (Path(folder) / "program.py").write_text(program, encoding="utf-8")
        done = subprocess.run(
            ["timeout", "-s", "KILL", str(timeout_s), *APART, "program.py"],
            input=given.encode(), stdout=printed, stderr=subprocess.PIPE,
            cwd=folder, env={"PATH": os.defpath}, check=False,
        )  # fmt: skip
        printed.seek(0)
        text = printed.read(MAX_BYTES).decode(errors="replace")
        return done.returncode, text, done.stderr.decode(errors="replace").strip()


def graded(prompt: Prompt, text: str, *, think_end: str | None, timeout_s: int) -> Verdict:
    """Right if all tests pass; `correct` of the reward pays the share that does."""
    _, end, answer = text.rpartition(think_end) if think_end else ("", "none is needed", text)
    blocks = BLOCK.findall(answer) if end else []
    if not blocks or len(blocks[-1]) > MAX_CHARACTERS:
        return Verdict(False, "no_answer", "program", None, "")
    passed, status = [], "ok"
    for test in prompt.columns["tests"]:
        code, printed, refused = run(blocks[-1], test["input"], timeout_s)
        if refused:
            raise RuntimeError(refused)
        status = "timeout" if code in (137, -9) else status
        passed.append(code == 0 and printed.split() == test["output"].split())
    share = sum(passed) / len(passed)
    return Verdict(all(passed), status, "program", blocks[-1], "", reward=share)


class Programs(RowVerifier):
    """Grades `data.reward.workers` answers at a time, each for `timeout_s` seconds a test."""

    def __init__(self, config: RewardConfig) -> None:
        settings = {"think_end": config.think_end, "timeout_s": config.timeout_s}
        super().__init__("program", partial(graded, **settings))
        self.workers = config.workers

    def grade(self, items, on_progress=None):
        """One verdict per (text, prompt), in order."""
        with ThreadPoolExecutor(self.workers) as pool:
            verdicts = list(pool.map(lambda item: self._verdict(item[1], item[0]), items))
        if on_progress is not None:
            on_progress(len(verdicts), len(items))
        return verdicts


@register("grader", "program")
def program(config: RewardConfig) -> Programs:
    """The grader, if this system can keep programs apart."""
    try:
        _, printed, refused = run("print(1)", "", timeout_s=10)
    except OSError as error:
        printed, refused = "", str(error)
    if printed != "1\n":
        raise ConfigError(
            "data.reward.grader", "programs cannot be kept apart from this system",
            value=refused or "nothing was printed",
            fix="use Linux with util-linux and user namespaces (user.max_user_namespaces above 0; "
            "in Docker --security-opt seccomp=unconfined)",
        )  # fmt: skip
    return Programs(config)
