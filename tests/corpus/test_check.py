"""Planted defects: each is found in its row and named with its fix, and nothing else is."""

import json
import re
import shutil

import pytest
from transformers import AutoTokenizer

THINGS = ("kites", "shells", "lamps", "cups", "nails", "coins", "boats", "stamps", "tiles", "seeds")
TEST_PROBLEM = (
    "Marta walks her dog around the lake three times each morning before school begins, and one "
    "round takes her 11 minutes. How many minutes is that in 14 days?"
)


def question(n):
    thing, other = THINGS[n % 10], THINGS[(n * 7 + 3) % 10]
    return f"Crate {n} holds {n + 2} {thing} and {n + 5} {other}. How many things are in crate {n}?"


def row(n):
    total = 2 * n + 7
    trace = f"<think>\n{n + 2}+{n + 5}={total}\n</think>\nThe answer is \\boxed{{{total}}}."
    logprobs = [-0.5] * (len(trace) + 1)
    return {
        "id": f"crate-{n}", "prompt": question(n), "answer": str(total), "trace": trace,
        "logprobs": logprobs,
    }  # fmt: skip


def with_trace(row, trace):
    return {**row, "trace": trace, "logprobs": None}


# Row (counted from 1), the defect's kind, and what is done to the row.
PLANTED = {
    8: ("broken_row", lambda r: {**r, "answer": None}),
    21: ("gold_unusable", lambda r: {**r, "answer": "the graph is a parabola"}),
    33: ("trace_wrong", lambda r: with_trace(r, r["trace"].replace("boxed{", "boxed{1"))),
    40: ("no_answer", lambda r: with_trace(r, r["trace"].partition("The answer")[0] + "Done.")),
    57: ("think_unclosed", lambda r: with_trace(r, r["trace"].replace("</think>", ""))),
    63: ("think_doubled", lambda r: with_trace(r, "<think>\n" + r["trace"])),
    79: ("eos_inside", lambda r: with_trace(r, r["trace"] + "<|endoftext|> And so on.")),
    88: ("control_token", lambda r: {**r, "prompt": r["prompt"] + "<|im_end|>"}),
    91: ("trace_too_long", lambda r: with_trace(r, r["trace"].replace("=", "=" * 300))),
    102: ("prompt_too_long", lambda r: {**r, "prompt": r["prompt"] + " Count well." * 40}),
    110: ("duplicate_prompt", lambda r: {**r, **PROMPT_OF_ROW_5}),
    123: ("gold_conflict", lambda r: {**row(12), "answer": "26", "trace": None, "logprobs": None}),
    131: ("test_overlap", lambda r: {**r, "prompt": TEST_PROBLEM.replace("Marta", "Jonas")}),
    144: ("broken_text", lambda r: {**r, "prompt": r["prompt"].replace("holds", "h\ufffdlds")}),
    156: ("logprobs_length", lambda r: {**r, "logprobs": r["logprobs"][:-1]}),
    167: ("trace_empty", lambda r: with_trace(r, "<|endoftext|>")),
    178: ("think_unopened", lambda r: with_trace(r, r["trace"].removeprefix("<think>\n"))),
    190: ("repeated_trace", lambda r: {**with_trace(r, row(10)["trace"]), "answer": "27"}),
}  # fmt: skip
PROMPT_OF_ROW_5 = {**row(5), "prompt": question(5).upper().replace(" ", "  ")}
BROKEN_LINE = 150


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    rows = [row(n) for n in range(1, 201)]
    (folder / "clean.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for place, (_, plant) in PLANTED.items():
        rows[place - 1] = plant(rows[place - 1])
    lines = [json.dumps(r) for r in rows]
    lines[BROKEN_LINE - 1] = lines[BROKEN_LINE - 1][:40]
    (folder / "planted.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "test.jsonl").write_text(
        json.dumps({"question": TEST_PROBLEM, "answer": "So 3*11*14=462\n#### 462"}) + "\n"
    )
    return folder


@pytest.fixture
def check(command_line, files, byte_model, tmp_path):
    def run(name, *more):
        done = command_line(
            "data", "check", files / name, "--model", byte_model, "--against", files / "test.jsonl",
            "--source.max_prompt_tokens", "300", "--max_response_tokens", "256",
            "--out", tmp_path, *more,
        )  # fmt: skip
        written = (tmp_path / "check.json").exists()
        return done, json.loads((tmp_path / "check.json").read_text()) if written else None

    return run


def test_every_planted_defect_is_found_and_none_is_invented(check, tmp_path):
    done, found = check("planted.jsonl")
    assert done.returncode == 3
    defects = [(int(d["where"].rpartition(":")[2]), d["kind"]) for d in found["defects"]]
    expected = {(place, kind) for place, (kind, _) in PLANTED.items()} | {
        (BROKEN_LINE, "broken_row")
    }
    assert sorted(defects) == sorted(expected)
    assert len(expected) >= 12
    for defect in found["defects"]:
        assert defect["fix"]
        assert f"planted.jsonl:{defect['where'].rpartition(':')[2]}" in done.stdout
        assert defect["fix"] in done.stdout
    page = (tmp_path / "check.html").read_text()
    for defect in found["defects"]:
        assert defect["where"] in page
    assert "<script" not in page
    assert "<mark>&lt;|im_start|&gt;</mark>" in page


def test_a_clean_file_has_none(check):
    done, found = check("clean.jsonl")
    assert (done.returncode, found["defects"]) == (0, [])
    assert found["num_right"] == found["num_traces"] == 200
    assert found["understood"]["columns"]["logprobs"] == "logprobs"
    assert "⟦<|im_start|>⟧user\n  Crate 1 holds" in done.stdout
    # One byte is one token, and the template closes turns with another token than EOS.
    prompt = f"<|im_start|>user\n{question(1)}<|im_end|>\n<|im_start|>assistant\n"
    short = len(re.sub(r"<\|im_\w+\|>", "x", prompt))
    assert found["lengths"][0]["p50"] in range(short, short + 12)
    assert any("closes a turn with '<|im_end|>'" in note for note in found["notes"])


def test_probabilities_of_traces_under_the_model(check, byte_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done, found = check("clean.jsonl", "--probabilities", "1", "--source.limit", "1")
    assert done.returncode == 0
    tokenizer = AutoTokenizer.from_pretrained(byte_model)
    model = AutoModelForCausalLM.from_pretrained(byte_model)
    prompt = f"<|im_start|>user\n{question(1)}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt + row(1)["trace"] + "<|endoftext|>", return_tensors="pt").input_ids
    start = len(tokenizer(prompt).input_ids)
    logprob = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
    of_token = logprob.gather(-1, ids[0, start:, None])[:, 0]
    assert found["probabilities"]["num_tokens"] == len(of_token)
    assert found["probabilities"]["mean_nats"] == pytest.approx(-of_token.mean().item(), rel=1e-5)
    median = torch.quantile(of_token.exp(), 0.5).item()
    assert found["probabilities"]["percentiles"]["50"] == pytest.approx(median, rel=1e-4)


def test_what_a_run_reads_is_what_is_checked(command_line, tmp_path):
    done = command_line("data", "check", "--config", "conf/quickstart.yaml", "--out", tmp_path)
    assert done.returncode == 0
    assert "0 over the limit of 48" in done.stdout
    assert "512 of 512 traces right" in done.stdout


def test_rewards_of_a_run_may_be_ones_own(command_line, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from luffy_pl.registry import register\n\n\n"
        "@register('reward', 'never')\n"
        "def never(prompt, response):\n    return 0.0\n"
    )
    (tmp_path / "mine.yaml").write_text("data: {reward: {terms: {never: 1.0}}}")
    configs = ["--config", "conf/quickstart.yaml", "--config", tmp_path / "mine.yaml"]
    done = command_line(
        "data", "check", *configs, "--plugin", tmp_path / "mine.py", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr


def test_mistakes_are_one_line(command_line, files, byte_model, tmp_path):
    for name, columns in (("other", {"Problem": "2+3=?", "Final": "5"}),
                          ("image", {"prompt": [{"type": "image"}], "answer": "5"})):  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(columns) + "\n")
    known = ("--model", byte_model)
    for args, says in (
        (
            ("data", "check", tmp_path / "other.jsonl", *known),
            "in --source.columns.answer (found: Problem, Final), or fix the row",
        ),
        (
            ("data", "check", tmp_path / "image.jsonl", *known),
            "Fix: fix the row, or --source.on_bad_row skip",
        ),
        (("data", "check", "--data.train.path", "x"), "Fix: give the file without an option"),
        (("data", "check", "x", "--data.engine.kind", "hf"), "data check --help"),
        (("data", "chekc"), "one of check, prepare"),
        (("data", "check", files / "clean.jsonl"), "model: is missing"),
        (("data", "check", "--modle", "x"), "did you mean model?"),
        (("data", "check", tmp_path / "no.jsonl", "--model", byte_model), "cannot be opened"),
        (
            ("data", "check", files / "clean.jsonl", "--model", byte_model,
             "--source.columns.answer", "gold"),
            "columns.answer names a column that the first row does not have",
        ),
    ):  # fmt: skip
        done = command_line(*args, "--out", tmp_path) if "check" in args else command_line(*args)
        assert done.returncode in (2, 3)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_columns_that_no_field_reads_are_named(command_line, byte_model, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "2+3=?", "answer": "5", "worked": "5"}) + "\n")
    done = command_line(
        "data", "check", rows, "--model", byte_model, "--source.require_trace", "--out", tmp_path
    )
    assert "schema plain; prompt from question, answer from answer (guessed: prompt" in done.stdout
    assert "other columns, for rewards and graders alone: worked\n" in done.stdout
    assert "name its column in --source.columns.trace" in done.stdout
    assert "traces right, 1 defect\n" in done.stdout


def test_a_hostile_row_is_text_on_the_page(command_line, byte_model, tmp_path):
    hostile = {**row(1), "id": "</td><script>alert(1)</script>", "answer": "12"}
    hostile["prompt"] += "<img src=x onerror=1>"
    (tmp_path / "hostile.jsonl").write_text(json.dumps(hostile) + "\n")
    done = command_line(
        "data",
        "check",
        tmp_path / "hostile.jsonl",
        "--model",
        byte_model,
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == 3
    page = (tmp_path / "out" / "check.html").read_text()
    assert "<script" not in page
    assert "<img" not in page


def test_what_a_template_is_given_is_said(command_line, files, byte_model, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{{ messages[-1].content }}{% if add_generation_prompt %}"
        "{% if short %} Be short.{% endif %}\nAnswer: {% endif %}"
    )
    args = [
        "data", "check", files / "clean.jsonl", "--model", byte_model, "--out", tmp_path,
        "--source.chat_template", template, "--source.limit", "3",
    ]  # fmt: skip
    done = command_line(*args, "--chat_template_kwargs", "{short: true}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: the template is given short=True (chat_template_kwargs)" in done.stdout
    assert "Be short." in done.stdout
    (tmp_path / "run.yaml").write_text(
        "data: {chat_template_kwargs: {short: true}, engine: {max_model_len: 60}}\n"
    )
    done = command_line(*args, "--config", tmp_path / "run.yaml")
    assert "the template is given short=True" in done.stdout
    assert "prompt_too_long: 3." in done.stdout
    assert "3 over the limit of 59" in done.stdout


def test_a_trace_that_goes_on_behind_another_end(command_line, byte_model, tmp_path):
    """The model's generation settings end a response at a token that is no special one."""
    model = tmp_path / "model"
    shutil.copytree(byte_model, model)
    vocabulary = AutoTokenizer.from_pretrained(model).get_vocab()
    ends = {"eos_token_id": [258, vocabulary["~"]]}
    (model / "generation_config.json").write_text(json.dumps(ends))
    whole = row(2)["trace"]
    rows = [row(1), with_trace(row(2), whole + "~ And on.")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = command_line(
        "data", "check", tmp_path / "rows.jsonl", "--model", model, "--out", tmp_path
    )
    assert done.returncode == 3
    assert "eos_inside: 1." in done.stdout
    assert f"rows.jsonl:2: '~', which ends a response, as token {len(whole) + 1}" in done.stdout
