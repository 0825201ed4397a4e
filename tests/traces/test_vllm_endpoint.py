"""`vllm serve` as a teacher, log-probabilities and all."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from luffy_pl.bundled import resolve
from traces.expected import recorded_and_expected

pytestmark = pytest.mark.long

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_HOST_IP": "127.0.0.1",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The base of the miniature world behind a port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "serve.log").open("w+")
    command = [
        # As `vllm serve`, whose program asks for a distribution of another name than vllm-cpu's.
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", resolve("bundled:base"),
        "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--max-model-len", "96", "--enforce-eager",
        "--logprobs-mode", "processed_logprobs", "--no-enable-chunked-prefill",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log)
    try:
        while True:
            if process.poll() is not None:
                log.seek(0)
                pytest.fail(log.read()[-3000:])
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def test_recorded_logprobs_of_an_endpoint(server, command_line, tmp_path):
    out = tmp_path / "traces.jsonl"
    done = command_line(
        "traces", "generate", "bundled:shorter.jsonl", "--teacher.endpoint", server,
        "--teacher.model", "base", "--teacher.temperature", "1.5", "--teacher.samples", "8",
        "--teacher.max_tokens", "48", "--teacher.record_logprobs", "true",
        "--tokenizer", resolve("bundled:base"), "--source.limit", "8", "--out", out,
        "--reward.workers", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = list(recorded_and_expected(out, temperature=1.5))
    assert pairs
    for recorded, expected in pairs:
        assert recorded == pytest.approx(expected, abs=1e-4)
