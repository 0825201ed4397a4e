"""Files of a run that are cut off, of another kind, or edited: skipped by name, or one line."""

import json
import shutil
from pathlib import Path

import pytest
from report.report_runs import answer, interval, write_lines, write_results

from luffy_pl.errors import LuffyError
from luffy_pl.evaluation.answers import complete_problems
from luffy_pl.report.command import comparison
from luffy_pl.report.compare import read_pairs
from luffy_pl.report.page.build import page_pieces
from luffy_pl.run_dir.begin import cut_results
from luffy_pl.run_dir.checkpoints import FOLDER, newest
from luffy_pl.run_dir.read import read_run
from luffy_pl.run_dir.status import main as status_main
from luffy_pl.sweep.state import JOURNAL, read_state

KEPT = Path(__file__).with_name("run_f22e8fd") / "luffy"
STATUS = {"state": "running", "pid": 1, "host": "h", "phase": 1, "num_phases": 2, "stage": "train",
          "done": 0, "total": 0, "started": 0.0, "moved": 0.0, "written": 0.0,
          "every_s": 1.0}  # fmt: skip
EVENT = {"event": "started", "cell": "a", "fingerprint": "f", "time": 0.0}
BROKEN = (None, -1, True, "x", [1], {"a": {}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with every kind of file that a command of ours reads again."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(KEPT, folder, symlinks=True)
    (folder / "config.yaml").write_text("model: {policy: {path: some/model}}\n")
    write_results(folder, [{"name": "b", "n": 1, "k": 1, "temperature": 0.0, "pass_at": {},
                            "metrics": {"avg": interval(0.5)}}])  # fmt: skip
    (folder / "status.json").write_text(json.dumps(STATUS))
    write_lines(folder / JOURNAL, [EVENT])
    write_lines(folder / "validate" / "answers" / "b-0.jsonl", [answer("b/0", "7")])
    return folder


def use(folder):
    """Everything that reads a run which nobody writes to."""
    run = read_run(folder)
    comparison([run])
    "".join(page_pieces([folder]))
    read_pairs(folder, folder)
    newest(folder / FOLDER)
    read_state(folder)
    complete_problems(folder / "validate" / "answers" / "b-0.jsonl", 1)
    status_main([str(folder)])
    cut_results(folder, 1)
    read_run(folder)


def contents(file):
    """Whole files of another kind, and this one with a field that is not what it was."""
    text = file.read_text()
    yield from ("", "5\n", "null\n", "[]\n", "{}\n", '"text"\n', text[: len(text) // 2], "[" * 9000)
    yield b"\xff\xfe\x00\x80"
    is_lines = file.suffix == ".jsonl"
    try:
        first = json.loads(text.split("\n")[0] if is_lines else text)
    except ValueError:  # YAML
        return
    rest = text.partition("\n")[2] if is_lines else ""
    for name in [*first][:12]:
        for value in BROKEN:
            yield json.dumps({**first, name: value}) + "\n" + rest
        yield json.dumps({key: value for key, value in first.items() if key != name}) + "\n" + rest
    if is_lines:
        yield from (f"{line}\n{text}" for line in ("5", "null", "[]", "{}", "{", "\x00"))


FILES = (
    "metrics.jsonl", "evaluation.jsonl", "results.json", "status.json", "config.yaml", JOURNAL,
    "checkpoints/phase-*/manifest.json", "rollouts/*.jsonl", "evaluation/*.jsonl",
    "validate/answers/*.jsonl",
)  # fmt: skip


@pytest.mark.case(51)
@pytest.mark.parametrize("pattern", FILES)
def test_no_broken_file_is_a_defect(whole, tmp_path, pattern, capsys):
    name = sorted(whole.glob(pattern))[-1].relative_to(whole)
    tried = list(contents(whole / name))
    assert len(tried) > 8
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    use(folder)
    for content in tried:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            use(folder)
        except LuffyError as error:
            if str(folder) not in str(error):
                raise AssertionError(f"{name}: {content[:300]!r}") from error
        except Exception as error:
            raise AssertionError(f"{name}: {content[:300]!r}") from error
        for file in ("metrics.jsonl", "evaluation.jsonl"):  # which are cut
            shutil.copy(whole / file, folder / file)


def test_a_broken_line_is_skipped_by_name_and_the_others_count(whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    file = folder / "metrics.jsonl"
    before = read_run(folder)
    assert not caplog.records
    file.write_text(f'5\n{file.read_text()}{{"step": "x"}}\n{{"step": 1, "cut')
    assert read_run(folder) == before
    [record] = caplog.records
    assert record.message == (
        f"{file}: skipped what cannot be read: line 1 is no JSON object, and 1 more"
    )
    cut_results(folder, 10**6)
    assert file.read_text() == (whole / "metrics.jsonl").read_text()


def test_a_broken_manifest_is_skipped_by_name(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    saved, skipped = newest(folder / FOLDER)
    assert skipped == []
    file = saved.path / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["files"]["state.ckpt"]["bytes"]
    file.write_text(json.dumps(manifest))
    assert f"{saved.path.name}: its manifest.json has a broken files" in newest(folder / FOLDER)[1]


def test_the_commands_say_so_in_one_line(command_line, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    (folder / "results.json").write_text("5")
    (folder / "evaluation.jsonl").open("a").write("7\n")
    done = command_line("report", folder)
    assert done.returncode == 0, done.stderr
    assert sorted({record.message for record in caplog.records}) == [
        f"{folder}/evaluation.jsonl: skipped what cannot be read: line 4 is no JSON object",
        f"skipped: {folder}/results.json: holds no results (is no JSON object). "
        "Fix: evaluate again",
    ]
    (folder / "status.json").write_text('{"state": 5}')
    done = command_line("status", folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 1)


@pytest.mark.parametrize("content", ["5", "[]", "{" * 2000, b"\xff\xfe", "a: [", "plugins: 5"])
def test_a_broken_configuration_of_a_run_is_not_resumed(command_line, whole, tmp_path, content):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    (folder / "config.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--resume", "true", "--run_dir", folder
    )
    [line] = done.stderr.splitlines()
    assert done.returncode in (2, 8), line
    assert str(folder) in line
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
