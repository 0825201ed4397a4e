"""What a teacher sees of a row, and which rows it does not score."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from luffy_pl.bundled import resolve
from luffy_pl.data.chat import encode_known, render_prompt
from luffy_pl.data.tokenizer import check_same_tokenizer, load_tokenizer
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.guidance.teacher_prompts import TeacherPromptConfig, TeacherPrompter, read_template
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, Verdict

BASE = resolve("bundled:base")
QUESTION, SPECIAL = "27-6=?", ("<eos>",)
TRACE = ExpertTrace("so27-6=21</think>\\boxed{21}", (1,))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BASE)


def row(text, correct, *, num_given=0, extracted=None):
    verdict = Verdict(correct, "ok", "string", extracted, "21")
    source = "expert" if num_given else "rollout"
    return Response(source, text, (5, 6, 1), "stop", verdict, num_given=num_given)


def group(tokenizer, *rows):
    text = render_prompt(tokenizer, [{"role": "user", "content": QUESTION}])
    [ids] = encode_known(tokenizer, [text])
    prompt = Prompt("a", text, ids, "21", question=QUESTION)
    return Group(prompt, rows, tuple(float(bool(row.verdict.correct)) for row in rows))


def taught(tokenizer, sees, *rows, template="{question}{text}", window=None, traces=(TRACE,)):
    """Each row's prompt as the teacher sees it, or the reason why it does not; None: given."""
    prompter = TeacherPrompter(
        sees, lambda texts: encode_known(tokenizer, texts), SPECIAL, template, window, seed=0
    )
    [found] = prompter.taught([group(tokenizer, *rows)], {"a": traces}, phase=0)
    prompts = [row.teacher_prompt for row in found.responses]
    return [p and (p.why or tokenizer.decode(p.token_ids)) for p in prompts]


def test_each_kind_by_hand(tokenizer):
    right, wrong = row("so21", True), row("so20", False)
    given = row("so21", True, num_given=3)
    assert taught(tokenizer, "trace", right, given) == [
        f"<user>{QUESTION}{TRACE.text}<assistant><think>",
        None,
    ]
    assert taught(tokenizer, "answer", wrong) == [f"<user>{QUESTION}21<assistant><think>"]
    # A right answer sees another one, or none; what an expert wrote is no peer.
    assert taught(tokenizer, "peer", wrong, right, given) == [
        f"<user>{QUESTION}so21<assistant><think>",
        "nothing_to_tell",
        None,
    ]
    other = row("now21", True)
    assert taught(tokenizer, "peer", right, other) == [
        f"<user>{QUESTION}now21<assistant><think>",
        f"<user>{QUESTION}so21<assistant><think>",
    ]


def test_feedback_is_the_verdict_in_words(tokenizer):
    # The miniature has no words for it, which is counted.
    assert taught(tokenizer, "feedback", row("so20", False, extracted="20")) == [
        "not_in_vocabulary"
    ]
    assert taught(tokenizer, "feedback", row("so20", None)) == ["nothing_to_tell"]


def test_rows_without_text_or_room_are_not_taught(tokenizer):
    assert taught(tokenizer, "trace", row("so21", True), traces=()) == ["nothing_to_tell"]
    # <user> 6 of the question, 2 of the answer, <assistant><think>, and 3 of the row.
    assert taught(tokenizer, "answer", row("so21", True), window=14) != ["too_long"]
    assert taught(tokenizer, "answer", row("so21", True), window=13) == ["too_long"]


def test_no_text_brings_a_special_token(tokenizer):
    [found] = taught(tokenizer, "peer", row("x", False), row("so<eos>21", True))[:1]
    assert found == f"<user>{QUESTION}so21<assistant><think>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{question}{hint}", "got '{hint}'. Fix: use {question} and {text}"),
        ("{text}", "does not show {question}"),
        (None, "cannot be read (FileNotFoundError)"),
    ],
)
def test_wrong_templates(tmp_path, text, said):
    file = tmp_path / "template.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        TeacherPromptConfig(template=str(file))
    assert said in str(raised.value)
    assert "data.rollout.teacher_prompt.template" in str(raised.value)


def test_templates_of_the_recipes_can_be_read():
    for name in ("trace", "answer", "peer"):
        assert "{text}" in read_template(f"bundled:teacher/{name}.txt")


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean trace"):
        TeacherPromptConfig(sees="trase")


def test_a_teacher_with_another_tokenizer_is_refused(tokenizer, tmp_path):
    other = AutoTokenizer.from_pretrained(BASE)
    other.save_pretrained(tmp_path)
    shutil.copy(f"{BASE}/config.json", tmp_path)
    check_same_tokenizer(tokenizer, str(tmp_path), where="here")
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["so"], vocabulary["now"] = vocabulary["now"], vocabulary["so"]
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError) as raised:
        check_same_tokenizer(tokenizer, str(tmp_path), where="model.frozen.teacher.path")
    assert "model.frozen.teacher.path: its tokenizer is not the policy's" in str(raised.value)
