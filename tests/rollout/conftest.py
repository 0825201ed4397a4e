import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
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
def vllm():
    """The package; importing it takes seconds, in each process that collects tests."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is an extra")
    import vllm

    return vllm


@pytest.fixture(scope="session")
def base_path():
    return resolve("bundled:base")


# Each entry would change samples or log-probabilities, or end the engine, if it were obeyed.
OWN_SETTINGS = {
    "no_repeat_ngram_size": 2, "min_new_tokens": 30, "repetition_penalty": 1.8,
    "suppress_tokens": [10], "begin_suppress_tokens": [11], "bad_words_ids": [[12]],
    "sequence_bias": [[[13], 5.0]], "exponential_decay_length_penalty": [2, 1.5],
    "guidance_scale": 2.0, "max_time": 1e-6, "num_beams": 2, "stop_strings": ["="],
    "temperature": 0.1, "top_k": 1, "top_p": 0.1, "do_sample": True, "eos_token_id": [1, 14],
}  # fmt: skip


@pytest.fixture(scope="session")
def shaped_path(base_path, tmp_path_factory):
    """The base with generation settings of its own, which no engine may follow."""
    folder = tmp_path_factory.mktemp("model") / "shaped"
    shutil.copytree(base_path, folder)
    (folder / "generation_config.json").write_text(json.dumps(OWN_SETTINGS))
    return str(folder)


@pytest.fixture(
    scope="session", params=["hf", "vllm", pytest.param("vllm_server", marks=pytest.mark.slow)]
)
def engine(request, shaped_path):
    if request.param != "hf":
        pytest.importorskip("vllm", reason="vLLM is an extra")
    server = ServerConfig()
    if request.param == "vllm_server":
        server = ServerConfig(urls=(request.getfixturevalue("server_url"),), timeout_s=60)
    config = EngineConfig(kind=request.param, max_model_len=96, server=server)
    return start_engine(shaped_path, config, stop_token_ids=[EOS])


@pytest.fixture(scope="session")
def server_url(tmp_path_factory, shaped_path):
    """A real `luffy-pl serve` on this machine."""
    with serving(shaped_path, tmp_path_factory.mktemp("server")) as url:
        yield url


@contextmanager
def serving(model, folder):
    """The address of one for a model, while it runs; `folder` gets its log."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "log.txt"
    command = ["serve", str(model), "--port", str(port), "--max-model-len", "96"]
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
