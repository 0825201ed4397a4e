"""The check of GPUs, on a CPU: all that it can run there agrees, and the rest says why not."""

import json
import subprocess
import sys

import pytest


@pytest.mark.long
def test_what_a_cpu_can_run_of_it(work_dir, tmp_path):
    done = subprocess.run(
        [sys.executable, "experiments/gpu/check.py", "--device", "cpu", "--out", tmp_path,
         "--within", "1200"],
        cwd=work_dir(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    skipped = {n for n, found in report["checks"].items() if found["status"] == "skipped"}
    assert skipped >= {"speed_0.5b", "speed_1.5b", "flash_attention_2", "vllm_sleep_1"}
    assert {"float32", "fsdp", "offload", "lora", "quickstart_hf"}.isdisjoint(skipped)
    assert "name" not in report
    assert "nothing is claimed of GPUs" in (tmp_path / "report.md").read_text()
