"""`luffy-pl report`: the page, without a browser."""

import base64
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from report.report_runs import (
    HOSTILE,
    Page,
    answer,
    interval,
    write_lines,
    write_results,
    write_run,
)

import luffy_pl
from luffy_pl.report.page import answers as answers_module
from luffy_pl.report.page.embed import json_block, visible

PACKAGE = Path(luffy_pl.__file__).parent


@pytest.fixture
def report(command_line):
    """Run `luffy-pl report ARGS`; returns the page it names."""

    def run(*args):
        done = command_line("report", *args)
        assert done.returncode == 0, done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("page: ")]
        return Page(Path(line.removeprefix("page: ")).read_text(encoding="utf-8"))

    return run


def test_one_run_gets_a_page_beside_its_table(command_line, tmp_path):
    run = write_run(tmp_path / "run", ablation="no_shaping")
    done = command_line("report", run)
    assert (done.returncode, "heldout" in done.stdout) == (0, True)
    assert f"page: {run / 'report.html'}" in done.stdout
    page = Page((run / "report.html").read_text())
    assert {"runs", "results", "training"} <= set(page.ids())
    # Nothing was evaluated that the paper has, and there is no answer to browse.
    assert not {"published", "lengths", "temperature", "answers", "index"} & set(page.ids())
    assert page.text_of("dd")[:3] == ["some/model", "2", "no_shaping"]
    assert page.text_of("figcaption") == [
        "accuracy (percent)",
        "reward",
        "entropy (nats per token)",
    ]
    assert page.text_of("td")[:3] == ["50.0", "50.0", "[40.0, 60.0]"]


def test_several_runs_get_a_page_only_where_it_is_named(command_line, report, tmp_path):
    runs = [write_run(tmp_path / where / "same") for where in ("a", "b")]
    done = command_line("report", *runs)
    assert "page:" not in done.stdout
    assert not list(tmp_path.rglob("*.html"))
    page = report(*runs, "--html", tmp_path / "new" / "both.html")
    # Runs of one name are told apart by their whole paths.
    assert page.text_of("h2")[:2] == [str(run) for run in runs]
    assert command_line("report", "--compare", *runs, "--html", tmp_path / "x.html").returncode == 2


def test_recipes_are_named_beside_the_runs(command_line, report, tmp_path):
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run, recipe in zip(runs, ("dapo", "hpt+kl_in_loss"), strict=True):
        with (run / "config.yaml").open("a") as file:
            file.write(f"recipe: {recipe}\n")
    shown = command_line("report", *runs).stdout
    rows = [line.split()[:2] for line in shown.splitlines() if "heldout" in line]
    assert rows[:2] == [["a", "dapo"], ["b", "hpt+kl_in_loss"]]
    assert {"dapo", "hpt+kl_in_loss"} < set(
        report(*runs, "--html", tmp_path / "x.html").text_of("dd")
    )


def test_a_page_that_cannot_be_written(command_line, tmp_path, caplog):
    run = write_run(tmp_path / "run")
    done = command_line("report", run, "--html", tmp_path)
    assert (done.returncode, "cannot be written" in done.stderr) == (8, True)
    (run / "results.json").write_text("{}")
    done = command_line("report", run)
    assert (done.returncode, "results.json: holds no results" in caplog.text) == (0, True)


def test_answers_of_every_command_and_phase(report, tmp_path):
    run = write_run(tmp_path / "run")
    write_lines(run / "rollouts" / "phase-000001.jsonl", [answer("p/0", "old", tokens=99)])
    write_lines(run / "rollouts" / "phase-000002.jsonl", [
        answer("p/1", "mine", correct=False, tokens=3, advantage=-0.5),
        answer("p/1", "theirs", source="expert", tokens=50),
        answer("p/2", "other", correct=None, tokens=60, status="gold_bad"),
    ])  # fmt: skip
    write_lines(run / "predictions" / "heldout-0-0000.jsonl", [answer("h/0", "first")])
    write_lines(run / "predictions" / "heldout-1-0000.jsonl", [answer("h/1", "second")])
    write_lines(run / "validate" / "answers" / "amc-0.jsonl", [answer("a/0", "v")])
    write_lines(run / "test" / "answers" / "amc-1.jsonl", [answer("a/0", "t")])
    page = report(run)
    assert [one["label"] for one in page.data()] == [
        "rollouts, phase 2", "rollouts, phase 1", "test amc", "validate amc", "predict heldout",
    ]  # fmt: skip
    phase, heldout = page.data()[0], page.data()[4]
    assert [group["id"] for group in heldout["groups"]] == ["h/0", "h/1"]
    # Rollout and expert trace of a prompt stay one group.
    assert [one["source"] for one in phase["groups"][0]["answers"]] == ["rollout", "expert"]
    assert phase["groups"][0]["answers"][0] == {
        "source": "rollout", "response": "mine", "tokens": 3, "finish_reason": "stop",
        "reward": 0.0, "advantage": -0.5, "correct": False, "status": "ok", "tier": "string",
        "extracted": "7", "gold": "7",
    }  # fmt: skip
    captions = page.text_of("figcaption")
    assert captions[-4:] == ["test amc", "validate amc", "predict heldout", "rollouts, phase 2"]
    # Of the last phase only the one graded rollout is counted: no expert, none without a grade.
    correct, incorrect = page.figures()["rollouts, phase 2"]["lines"]
    assert (correct["y"], incorrect["x"], incorrect["y"]) == ([0], [3.5], [1])


def test_hostile_text_stays_text(report, tmp_path):
    run = write_run(tmp_path / "run<script>alert(1)</script>", benchmarks=["<i>name</i>"])
    (run / "config.yaml").write_text("model: {policy: {path: '</pre><script>evil()</script>'}}\n")
    lines = [answer(f"<u>{name}</u>", text) for name, text in HOSTILE.items()]
    write_lines(run / "rollouts" / "phase-000001.jsonl", lines)
    out = tmp_path / "report.html"
    page = report(run, "--html", out)
    tags = [tag for tag, _ in page.elements]
    assert not {"i", "u", "b", "img"} & set(tags)
    # Data, then uPlot and our own script, and a block of texts.
    kinds = [attrs.get("type") for tag, attrs in page.elements if tag == "script"]
    assert kinds == ["application/json"] * 2 + [None] * 2 + ["application/gzip"]
    responses = [group["answers"][0]["response"] for group in page.data()[0]["groups"]]
    assert responses[:4] == list(HOSTILE.values())[:4]
    assert responses[4] == "⟨U+001B⟩[2J⟨U+001B⟩]0;pwned⟨U+0007⟩ ⟨U+0000⟩ ⟨U+009B⟩31m"
    # Spelled out, and not the end of a line of the file.
    assert "⟨U+202E⟩gnol oot" in responses[5]
    assert "⟨U+2028⟩next" in responses[5]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", out.read_text())


def test_nothing_but_our_script_and_style_may_run(report, tmp_path):
    run = write_run(tmp_path / "run")
    write_lines(run / "predictions" / "heldout-0-0000.jsonl", [answer("h/0", "x")])
    page = report(run)
    [policy] = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    # There is no mathematics in the answer, so KaTeX and its fonts are not on the page.
    assert "font-src" not in rules
    scripts = [text for (tag, attrs), (_, text) in zip(page.elements, page.texts, strict=True)
               if tag == "script" and "type" not in attrs]  # fmt: skip
    for rule, texts in (("script-src", scripts), ("style-src", page.text_of("style"))):
        assert len(texts) == 2
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        hashes = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
        assert rules[rule] == hashes
    # No handler, style attribute or address of another file, which the policy would refuse.
    for _, attrs in page.elements:
        assert not {"style", "src"} & set(attrs)
        assert attrs.get("href", "#").startswith("#")
        assert not [name for name in attrs if name.startswith("on")]


def test_escaping_changes_nothing_of_the_value():
    value = {"x": "</script><!-- & \u2028 \u2029 ⟨ é 漢"}
    block = json_block(value)
    assert json.loads(block) == value
    assert not set("<>&\u2028\u2029") & set(block)
    assert visible("tab\t newline\n é 漢 😀") == "tab\t newline\n é 漢 😀"


def test_a_page_carries_a_limited_number_of_answers(report, tmp_path, monkeypatch):
    monkeypatch.setattr(answers_module, "MAX_ANSWERS", 8)
    monkeypatch.setattr(answers_module, "MAX_ANSWER_CHARACTERS", 100)
    run = write_run(tmp_path / "run")
    lines = [answer(f"h/{number // 2}", "x" * 99 + "y" * 99) for number in range(10)]
    write_lines(run / "predictions" / "heldout-0-0000.jsonl", lines)
    for phase in range(1, 5):
        of_phase = [answer(f"p/{phase}", "z") for _ in range(2)]
        write_lines(run / "rollouts" / f"phase-{phase:06d}.jsonl", of_phase)
    page = report(run)
    shown = {one["label"]: one["groups"] for one in page.data()}
    # Half of 8 for the benchmark, in whole groups; the other half for the newest rollouts.
    assert list(shown) == ["rollouts, phase 4", "rollouts, phase 3", "predict heldout"]
    assert [len(group["answers"]) for group in shown["predict heldout"]] == [2, 2]
    first = shown["predict heldout"][0]["answers"][0]["response"]
    # 100 characters of each are kept.
    assert first == "x" * 50 + "\n[... 98 characters of the file are left out ...]\n" + "y" * 50
    notes = "\n".join(page.text_of("p"))
    assert "predict heldout: the first 4 of 10 answers." in notes
    assert "rollouts: the last 2 of 4 phases." in notes


def test_lines_that_are_no_answers_do_not_stop_it(report, tmp_path):
    run = write_run(tmp_path / "run")
    lines = [{}, 3, {"prompt_id": 1, "response": 5, "reward": float("nan"), "verdict": "?"}]
    write_lines(run / "predictions" / "heldout-0-0000.jsonl", lines)
    with (run / "predictions" / "heldout-0-0000.jsonl").open("ab") as file:
        file.write('{"prompt_id": "é'.encode()[:-1])
    groups = report(run).data()[0]["groups"]
    assert [group["id"] for group in groups] == ["", "1"]
    assert groups[1]["answers"][0]["response"] == "5"
    assert groups[1]["answers"][0]["reward"] is None


def test_published_rows_beside_ours(command_line, report, tmp_path):
    ours = [{"name": "aime24", "n": 30, "k": 32, "metrics": {"avg": interval(0.25)}}]
    run = write_results(tmp_path / "mine", ours)
    page = report(run)
    assert "published" in page.ids()
    heads = set(page.text_of("th"))
    assert {"mine", "LUFFY", "LUFFY->ExGRPO", "AIME24"} <= heads
    assert not {"AMC", "Avg"} & heads
    assert {"SFT *", "SFT+RL *", "SFT->GRPO *"} <= heads  # disputed, with a note that says by whom
    assert "2604.23747" in " ".join(page.text_of("p"))
    done = command_line("report", run, "--paper")
    [luffy] = [line.split() for line in done.stdout.splitlines()
               if line.split()[:1] == ["LUFFY"] and "29.4" in line]  # fmt: skip
    assert luffy == ["LUFFY", "29.4"]
    assert ["mine", "25.0"] in [line.split() for line in done.stdout.splitlines()]
    assert "conf/eval" in done.stdout
    without = command_line("report", write_run(tmp_path / "run"), "--paper")
    assert "nothing to compare" in without.stdout


def test_an_average_needs_all_of_its_benchmarks(report, tmp_path):
    six = ["aime24", "aime25", "amc", "math500", "minerva", "olympiad"]
    ours = [{"name": name, "n": 9, "k": 1, "metrics": {"avg": interval(value / 10)}}
            for name, value in zip(six, range(1, 7), strict=True)]  # fmt: skip
    page = report(write_results(tmp_path / "mine", ours))
    assert "Avg" in page.text_of("th")
    assert "OOD" not in page.text_of("th")
    assert "35.0" in page.text_of("td")  # (10 + 20 + ... + 60) / 6
    corrected = {"SFT, both fixed, then RL", "SFT, as published"}
    assert corrected <= set(page.text_of("th"))
    assert {"57.0", "48.3"} <= set(page.text_of("td"))


def test_pass_at_k_against_temperature(report, tmp_path):
    runs = []
    for name, temperature in (("cold", 0.2), ("hot", 1.0)):
        pass_at = {"1": interval(0.4), "8": interval(0.6)}
        one = {"name": "aime24", "n": 30, "k": 8, "temperature": temperature,
               "metrics": {"avg": interval(0.4)}, "pass_at": pass_at}  # fmt: skip
        runs.append(write_results(tmp_path / name, [one]))
    page = report(*runs, "--html", tmp_path / "both.html")
    one, eight = page.figures()["cold, hot: aime24"]["lines"]
    assert (one["name"], one["x"], one["y"]) == ("pass@1", [0.2, 1.0], [40, 40])
    assert (eight["name"], eight["y"]) == ("pass@8", [60, 60])
    assert eight["low"] == pytest.approx([55, 55])
    assert "temperature" not in report(runs[0]).ids()  # one temperature is no curve
    # Within one run the benchmarks have different names; pass@k alone is enough.
    metrics = {"avg": interval(0.4), "pass": interval(0.5)}
    two = [{"name": f"amc_t{t}", "n": 9, "k": 4, "temperature": float(t), "metrics": metrics}
           for t in (0.6, "1.0")]  # fmt: skip
    assert report(write_results(tmp_path / "sweep", two)).text_of("figcaption") == ["sweep: amc"]


def test_numbers_that_do_not_exist(report, tmp_path):
    nothing = {"value": None, "low": None, "high": None}
    one = {"name": "amc", "n": 0, "k": 0, "temperature": 1.0, "metrics": {"avg": nothing,
           "pass": nothing, "tokens": nothing}, "pass_at": {"1": nothing}}  # fmt: skip
    page = report(write_results(tmp_path / "run", [one]))
    assert "[-, -]" in page.text_of("td")


def test_everything_the_page_needs_is_shipped():
    """Files of the package that are no code are named in pyproject.toml."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["luffy_pl"]
    shipped = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    files = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix != ".py"}
    assert not {file for file in files if "__pycache__" not in file.parts} - shipped


def test_a_row_under_a_hint_says_how_much_it_told():
    hinted = answer("p/1", "mine", source="hinted", hint={"share": 0.5, "text": "so"})
    assert answers_module.facts_of(hinted)["hint"] == 0.5
    assert "hint" not in answers_module.facts_of(answer("p/1", "mine"))
