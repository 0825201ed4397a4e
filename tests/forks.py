"""`luffy-pl` as a fork of a process that imported everything once: the same code, seconds earlier.

    server = Server(folder)
    process = Client(folder).start(["fit", "--config", "conf/quickstart.yaml"], cwd=folder)
    process.wait()

A command gets an environment, a working directory, standard streams and a session of its own, and
ends as a process ends, exit handlers included. Between server and command stands a watcher, which
hands the exit code on and kills the command when nobody waits for it any more.

Forking is safe only while there is one thread, so the server refuses to fork when an import started
another. A fork cannot show what differs between two starts of Python, such as the order of a set:
some tests therefore start the program itself.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
LUFFY_PL = Path(sys.executable).parent / "luffy-pl"
PLAIN, WITH_VLLM = "plain", "vllm"
# OpenBLAS and OpenMP start threads when they are imported, unless they are told not to.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
EARLY = {signal.SIGINT, signal.SIGTERM}
LOG = "log.txt"
LISTEN_S = 60  # it listens before it imports anything
START_S = 300
OUTLIVES_S = 60


class Process:
    """A command that was forked; as `subprocess.Popen`, as far as tests need it."""

    def __init__(self, args: Sequence[str], connection: socket.socket, stderr: IO[str] | None):
        self.args, self.stderr, self._connection = list(args), stderr, connection
        self.returncode: int | None = None
        self.pid = int(self._receive(START_S))

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or minus the signal that ended the command."""
        if self.returncode is None:
            # A watcher that is gone was killed with its command.
            self.returncode = int(self._receive(timeout) or -signal.SIGKILL)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command and all that it started; does nothing if it has ended."""
        if self.poll() is None:
            kill_session(self.pid)
            self.wait()

    def _receive(self, timeout: float | None) -> bytes:
        readable, _, _ = select.select([self._connection], [], [], timeout)
        if not readable:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._connection.recv(64)


class Server:
    """The process that is forked, for all clients. It ends with the one that started it.

    Args:
        folder: where its sockets and its log are. A socket's path may have 107 characters.
    """

    def __init__(self, folder: Path) -> None:
        with (folder / LOG).open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *(str(folder / kind) for kind in (PLAIN, WITH_VLLM))],
                cwd=folder, env=os.environ | ONE_THREAD | {"PYTHONPATH": python_path()},
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

    def close(self) -> None:
        """End it; commands that still run are killed by their watchers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Client:
    """Starts commands as forks of the server in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self,
        args: Sequence[object],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | int | None = None,
        script: Path | str | None = None,
        with_vllm: bool | None = None,
    ) -> Process:
        """Start `luffy-pl ARGS`, or a script with these arguments.

        Args:
            env: variables beside those of this process.
            stdout, stderr: files; nothing is kept by default. With `subprocess.PIPE` stderr is a
                text to read from.
            with_vllm: whether vLLM will be imported; by default a guess from the arguments.
        """
        words = [str(arg) for arg in args]
        environment = {**os.environ, **ONE_THREAD, "COLUMNS": "80", **(env or {})}
        request = {"args": words, "cwd": str(cwd), "env": environment, "script": str(script or "")}
        if with_vllm is None:
            with_vllm = samples_with_vllm(words)
        connection = self._connect(WITH_VLLM if with_vllm else PLAIN)
        reader = None
        with Path(os.devnull).open("r+b") as nowhere:
            streams = [stream.fileno() if hasattr(stream, "fileno") else nowhere.fileno()
                       for stream in (nowhere, stdout, stderr)]  # fmt: skip
            if stderr == subprocess.PIPE:
                read_end, streams[2] = os.pipe()
                reader = os.fdopen(read_end)
            message = json.dumps(request).encode()
            socket.send_fds(connection, [len(message).to_bytes(4, "big")], streams)
            connection.sendall(message)
            if stderr == subprocess.PIPE:
                os.close(streams[2])
        try:
            return Process(words, connection, reader)
        except (ValueError, OSError):
            raise RuntimeError(f"nothing was forked: {self._said()}") from None

    def _connect(self, kind: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + LISTEN_S
        while True:
            try:
                connection.connect(str(self._folder / kind))
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no server: {self._said()}") from None
                time.sleep(0.02)

    def _said(self) -> str:
        return (self._folder / LOG).read_text()[-4000:]


def wait_for_all(processes: Sequence[Process], timeout: float) -> list[int]:
    """Exit codes of ranks. As a launcher does, it kills those that outlive one that failed."""
    deadline = time.monotonic() + timeout
    while None in (codes := [process.poll() for process in processes]):
        now = time.monotonic()
        if any(codes):
            deadline = min(deadline, now + OUTLIVES_S)
        if now > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.02)
    return codes


def kill_session(pid: int) -> None:
    """Kill a command with what it started; it may be so young that it has no group yet."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def samples_with_vllm(args: Sequence[str]) -> bool:
    """Whether a command will import vLLM; a wrong answer costs seconds and nothing else."""
    if args[:1] == ["bench"]:
        return args[1] in ("rollout", "sync")
    settings = " ".join(args)
    is_hf = "engine.kind hf" in settings or "engine.kind=hf" in settings
    return args[:1] in (["fit"], ["validate"], ["test"], ["predict"]) and not is_hf


def python_path() -> str:
    """The checkout and its tests before everything else."""
    return os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])


def ranks_environments(size: int) -> list[dict[str, str]]:
    """What a launcher tells each of `size` processes of this machine."""
    common = {"NODE_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    places = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(size)]
    return [{name: str(value) for name, value in place.items()} for place in places]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def serve(sockets: Sequence[str]) -> None:
    """Import everything when somebody connects, then fork, until standard input ends."""
    plain, with_vllm = map(listen, sockets)
    listeners = [plain, with_vllm]
    for listener in ready(listeners):
        import_everything()
        if listener is plain or plain not in listeners:
            fork_at_connection(listener, listeners)
        elif fork():
            listeners.remove(with_vllm)
            with_vllm.close()
        else:
            # A server of its own, for the others stay without vLLM.
            listeners.remove(plain)
            plain.close()
            import_vllm()


def listen(path: str) -> socket.socket:
    """A socket at a path; connections wait until they are accepted."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def ready(listeners: list[socket.socket]) -> Iterator[socket.socket]:
    """Yield each listener that somebody connects to."""
    while True:
        waiting, _, _ = select.select([0, *listeners], [], [], 1.0)
        collect_children()
        if 0 in waiting:
            return
        yield from waiting


@functools.cache
def import_everything() -> None:
    """All that a command may need, but vLLM."""
    import gc

    import torch

    from luffy_pl.process.safe_start import make_start_safe

    make_start_safe()
    torch.set_num_threads(1)
    import torch.distributed.checkpoint
    import torch.utils.tensorboard

    import luffy_pl.bench.command
    import luffy_pl.model.command
    import luffy_pl.report.command
    import luffy_pl.rollout.hf_engine
    import luffy_pl.run.command
    import luffy_pl.sweep.command  # noqa: F401
    from luffy_pl.bundled import resolve
    from luffy_pl.run.composition import compose

    for subcommand in ("fit", "validate"):  # makes the parser that the forks use
        compose([subcommand, "--config", resolve("bundled:quickstart")])
    # The forks share what is never written to.
    gc.collect()
    gc.freeze()


def import_vllm() -> None:
    """With what an engine on a CPU imports when it starts."""
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    from vllm import LLM, SamplingParams  # noqa: F401


def fork() -> int:
    """As `os.fork`, refused where another thread could hold a lock that the child waits for."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"{threads} threads: something that is imported starts one")
    return os.fork()


def collect_children() -> None:
    """Watchers that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_at_connection(listener: socket.socket, listeners: Sequence[socket.socket]) -> None:
    """Fork a watcher, and by it the command that the connection asks for."""
    connection, _ = listener.accept()
    if fork():
        connection.close()
        return
    for each in listeners:
        each.close()
    watch(connection)


def watch(connection: socket.socket) -> None:
    """Start the command, say its id, wait for its end, say its exit code."""
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    left, parts = int.from_bytes(head, "big"), []
    while left:
        parts.append(connection.recv(left))
        left -= len(parts[-1])
    request = json.loads(b"".join(parts))
    # A signal that comes early waits until the command could have been a Python of its own.
    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(request, streams)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    for stream in streams:
        os.close(stream)
    connection.sendall(str(pid).encode())
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        kill_session(pid)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Become the command."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [request["script"] or str(LUFFY_PL), *request["args"]]
    from luffy_pl.cli import main
    from luffy_pl.process.first_rank import know_own_rank

    know_own_rank()  # Lightning looked when it was imported, which was before the fork

    # Before its first line, Python ends of Ctrl-C without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["script"]:
        import runpy

        sys.path.insert(0, str(Path(request["script"]).parent))
        runpy.run_path(request["script"], run_name="__main__")
        sys.exit(0)
    sys.exit(main())


if __name__ == "__main__":
    serve(sys.argv[1:])
