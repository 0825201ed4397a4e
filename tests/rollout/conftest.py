import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.error import URLError

import pytest

from luffy_pl.bundled import resolve
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.rollout.engine import EngineConfig, ServerConfig
from luffy_pl.rollout.start import start_engine

EOS = 1
START_S = 600


@pytest.fixture(scope="session")
def base_path():
    return resolve("bundled:base")


@pytest.fixture(
    scope="session", params=["hf", "vllm", pytest.param("vllm_server", marks=pytest.mark.slow)]
)
def engine(request, base_path):
    if request.param != "hf":
        pytest.importorskip("vllm", reason="vLLM is an extra")
    server = ServerConfig()
    if request.param == "vllm_server":
        server = ServerConfig(urls=(request.getfixturevalue("server_url"),), timeout_s=60)
    config = EngineConfig(kind=request.param, max_model_len=96, server=server)
    return start_engine(base_path, config, stop_token_ids=[EOS])


@pytest.fixture(scope="session")
def server_url(tmp_path_factory):
    """A real `luffy-pl serve` on this machine."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = ["serve", "bundled:base", "--port", str(port), "--max-model-len", "96"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "luffy-pl"), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ),
        )
    try:
        wait_until_healthy(url, server, log)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def wait_until_healthy(url, server, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    raise AssertionError(f"no server: {log.read_text()[-2000:]}")


@pytest.fixture
def policy(base_path):
    return load_policy(PolicyConfig(path=base_path), base_path).eval()
