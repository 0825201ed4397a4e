"""An evaluation that was interrupted and resumed is the evaluation that was not."""

import dataclasses
import json
import re
import shutil

import pytest
import torch

from luffy_pl.rollout.hf_engine import HfEngine
from luffy_pl.run_dir.read import read_lines

OVERLAY = """
data:
  engine: {kind: hf}
  answers_per_chunk: 6
  benchmarks:
    - name: shorter
      source: {path: "bundled:shorter.jsonl", limit: 5}
      samples_per_problem: 3
      temperature: 1.5
    - name: longer
      source: {path: "bundled:longer.jsonl", limit: 7}
"""
# shorter: 2 + 2 + 1 problems of 3 answers; longer: 6 + 1 problems.
OUTCOME = (
    "results.json", "results.md", "validate.jsonl",
    "validate/phase-000000-shorter.jsonl", "validate/phase-000000-longer.jsonl",
)  # fmt: skip


class Killed(BaseException):
    pass


@pytest.fixture
def validate(command_line, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    configs = ["--config", "conf/quickstart.yaml", "--config", overlay]

    def run(name, *args, command="validate"):
        return command_line(command, *configs, "--run_dir", tmp_path / name, *args)

    return run


@dataclasses.dataclass
class Asked:
    """Prompts of each call of the engine, the probe left out; it dies at call `die_at`.

    num_empty: calls without any.
    """

    calls: list = dataclasses.field(default_factory=list)
    num_empty: int = 0
    die_at: int = 0


@pytest.fixture
def asked(monkeypatch):
    asked, usual = Asked(), HfEngine.generate

    def generate(self, prompts, **settings):
        asked.num_empty += not prompts
        if prompts and not settings["sampling"].logprobs:
            asked.calls.append(len(prompts))
            if len(asked.calls) == asked.die_at:
                raise Killed
        return usual(self, prompts, **settings)

    monkeypatch.setattr(HfEngine, "generate", generate)
    return asked


def table(done):
    return [line for line in done.stdout.splitlines() if line.strip()]


def cut_last_line(path):
    text = path.read_bytes()
    path.write_bytes(text[: text.rindex(b"\n", 0, -1) + 40])


def test_interrupted_and_resumed_is_the_same_evaluation(validate, asked, tmp_path):
    whole = validate("whole")
    assert whole.returncode == 0, whole.stderr
    assert asked.calls == [2, 2, 1, 6, 1]

    asked.calls.clear()
    asked.die_at = 3
    with pytest.raises(Killed):
        validate("cut")
    answers = tmp_path / "cut" / "validate" / "answers"
    assert len(read_lines(answers / "shorter-0.jsonl")) == 4 * 3
    assert not (tmp_path / "cut" / "results.json").exists()
    cut_last_line(answers / "shorter-0.jsonl")

    asked.calls.clear()
    asked.die_at = 0
    resumed = validate("cut", "--resume", "true")
    assert resumed.returncode == 0, resumed.stderr
    assert asked.calls == [1, 1, 6, 1]  # the problem whose last answer was cut, and the rest
    assert table(resumed) == table(whole)
    for name in OUTCOME:
        expected, found = ((tmp_path / run / name).read_text() for run in ("whole", "cut"))
        assert found == expected, name

    asked.calls.clear()
    asked.num_empty = 0
    again = validate("cut", "--resume", "true")
    assert (asked.calls, table(again)) == ([], table(whole))
    assert asked.num_empty == 5  # a rank that shares the engine may still miss some
    for name in ("shorter-0.jsonl", "longer-0.jsonl"):
        lines, expected = (
            read_lines(tmp_path / run / "validate" / "answers" / name) for run in ("cut", "whole")
        )
        key = lambda line: (line["prompt_id"], line["response"])  # noqa: E731
        assert sorted(map(key, lines)) == sorted(map(key, expected))


def test_a_new_evaluation_replaces_the_answers(validate, tmp_path):
    for _ in range(2):
        assert validate("run").returncode == 0
        assert len(read_lines(tmp_path / "run" / "validate" / "answers" / "shorter-0.jsonl")) == 15
    # Not before it has got far enough to give its own.
    nowhere = '[{"name": "shorter", "source": {"path": "nowhere.jsonl"}}]'
    assert validate("run", "--data.benchmarks", nowhere).returncode == 3
    assert len(read_lines(tmp_path / "run" / "validate" / "answers" / "shorter-0.jsonl")) == 15


def test_test_keeps_its_answers_apart_and_verify_reads_them(validate, command_line, tmp_path):
    assert validate("run", command="test").returncode == 0
    assert not (tmp_path / "run" / "validate").exists()
    assert not (tmp_path / "run" / "results.json").exists()
    assert json.loads((tmp_path / "run" / "test_results.json").read_text())["version"] == 1
    pairs = tmp_path / "run" / "test" / "answers" / "shorter-0.jsonl"
    done = command_line("verify", "--pairs", pairs, "--out", tmp_path / "out.jsonl")
    assert "agreement with the file: 15 of 15" in done.stdout


OTHER = {
    "seed_everything": ("--seed_everything", "7"),
    "data.engine.dtype": ("--data.engine.dtype", "bfloat16"),
    "data.benchmarks[shorter].max_response_tokens": ("--data.rollout.max_response_tokens", "40"),
    "data.benchmarks[shorter].reward.forms": ("--data.reward.forms", "[hash]"),
    "data.benchmarks": ("--data.benchmarks", "[]"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return tmp_path_factory.mktemp("begun")


@pytest.mark.parametrize("key", OTHER)
def test_it_is_resumed_with_the_settings_it_was_begun_with(validate, begun, tmp_path, key):
    if not (begun / "validate").exists():
        assert validate("run").returncode == 0
        shutil.copytree(tmp_path / "run", begun, dirs_exist_ok=True)
    shutil.copytree(begun, tmp_path / "run", dirs_exist_ok=True)
    done = validate("run", "--resume", "true", *OTHER[key])
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert re.match(re.escape(f"luffy-pl: error [2] {key}") + r"(\.\w+)?: the evaluation in", line)


def test_another_checkpoint_under_the_same_name(validate, tmp_path):
    assert validate("run").returncode == 0
    path = tmp_path / "run" / "validate" / "answers" / "identity.json"
    identity = json.loads(path.read_text())
    assert identity["ckpt_path"] is None
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"luffy_pl": {}}, checkpoint)
    stat = checkpoint.stat()
    on_disk = {"path": str(checkpoint), "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns - 1}
    path.write_text(json.dumps({**identity, "ckpt_path": on_disk}))
    done = validate("run", "--resume", "true", "--ckpt_path", checkpoint)
    assert done.returncode == 2
    assert "[2] ckpt_path: " in done.stderr


def test_answers_to_another_text_are_not_taken(validate, tmp_path):
    assert validate("run").returncode == 0
    path = tmp_path / "run" / "validate" / "answers" / "longer-0.jsonl"
    path.write_text(path.read_text().replace('"prompt": "', '"prompt": "Please! ', 1))
    done = validate("run", "--resume", "true")
    assert done.returncode == 8
    assert "holds answers to another text or gold of this problem" in done.stderr


def test_nothing_to_resume(validate, tmp_path):
    done = validate("run", "--resume", "true")
    assert done.returncode == 8
    assert "holds no evaluation to resume" in done.stderr
    assert not (tmp_path / "run").exists()


def test_lines_where_there_is_no_terminal(validate):
    done = validate("run", "--progress.line_every_s", "0")
    lines = [line for line in done.stderr.splitlines() if "answers" in line]
    told = [re.sub(r", \d+:\d\d left", ", ETA", line) for line in lines]
    # The engine also says that it lives while no answer is finished.
    assert list(dict.fromkeys(line for line in told if " 0/" not in line)) == [
        "shorter 6/15 answers, ETA; all 6/22 answers, ETA",
        "shorter 12/15 answers, ETA; all 12/22 answers, ETA",
        "shorter 15/15 answers; all 15/22 answers, ETA",
        "longer 6/7 answers, ETA; all 21/22 answers, ETA",
        "longer 7/7 answers; all 22/22 answers",
    ]
