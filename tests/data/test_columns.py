import dataclasses

import pytest

from luffy_pl.data.columns import Columns, detect_schema, fill_columns, read_question
from luffy_pl.errors import ConfigError, DataError

WHERE = "data/train.jsonl:7"
USER = {"role": "user", "content": "2+2?"}
LUFFY = {
    "data_source": "aime",
    "prompt": [{"role": "system", "content": "Think."}, USER],
    "target": [{"role": "assistant", "content": "<think>\n2+2 is 4</think>4"}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "4"},
    "extra_info": {"split": "default", "index": 17},
}
GSM8K = {
    "question": "Half of 48, plus 48?",
    "answer": "Half: 48/2 = <<48/2=24>>24.\nAll: <<48+24=72>>$1,072.\n#### 1,072",
}
OPENR1 = {
    "problem": "2+2?",
    "answer": "4",
    "source": "olympiads",
    "uuid": "u-1",
    "generations": ["first", "second"],
}
PLAIN = {"prompt": "2+2?", "answer": "4"}


def read(row, schema="auto", **named):
    schema = detect_schema(row) if schema == "auto" else schema
    columns = fill_columns(Columns(**named), schema=schema, first_row=row, where=WHERE)
    return read_question(row, where=WHERE, schema=schema, columns=columns)


def refusal(row, **named):
    with pytest.raises(DataError) as caught:
        read(row, **named)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{WHERE}: ")
    assert ". Fix: " in message
    assert "on_bad_row=skip" in message
    return message.removeprefix(f"{WHERE}: ")


def test_the_released_files():
    assert detect_schema(LUFFY) == "luffy"
    question = read(LUFFY)
    assert question.messages == ({"role": "system", "content": "Think."}, USER)
    assert question.traces == ("<think>\n2+2 is 4</think>4",)
    assert question.logprobs == (None,)
    assert (question.id, question.ground_truth, question.data_source) == ("aime/17", "4", "aime")


def test_a_released_row_without_source_and_target():
    question = read(LUFFY | {"data_source": "", "target": None})
    assert (question.id, question.traces, question.logprobs) == ("17", (), ())
    del (row := dict(LUFFY))["target"]
    assert read(row).traces == ()


def test_gsm8k_gives_gold_and_worked_solution():
    assert detect_schema(GSM8K) == "gsm8k"
    question = read(GSM8K)
    assert question.messages == ({"role": "user", "content": "Half of 48, plus 48?"},)
    assert question.ground_truth == "1,072"
    assert question.traces == ("Half: 48/2 = 24.\nAll: $1,072.\n#### 1,072",)
    assert question.id == "train.jsonl:7"


def test_gsm8k_takes_the_last_mark():
    question = read(GSM8K | {"answer": "#### 1 is no answer\n#### 4"})
    assert question.ground_truth == "4"


@pytest.mark.parametrize("answer", ["just 4", "4\n####"])
def test_gsm8k_without_gold(answer):
    message = refusal(GSM8K | {"answer": answer}, schema="gsm8k")
    assert message.startswith(f"answer has no last line '#### N', got {answer!r}")


def test_openr1_takes_the_first_generation():
    assert detect_schema(OPENR1) == "openr1"
    question = read(OPENR1)
    assert (question.id, question.data_source) == ("olympiads/u-1", "olympiads")
    assert question.traces == ("first",)
    assert read(OPENR1 | {"generations": []}).traces == ()


def test_our_own_names_and_named_columns():
    assert detect_schema(PLAIN) == "plain"
    assert read(PLAIN | {"trace": "It is 4", "id": "a"}).id == "a"
    row = {"prompt": [USER], "solution": {"final": 4}, "completion": ["x", "y"], "a.b": "key"}
    question = read(row, answer="solution.final", trace="completion", id="a.b")
    assert (question.ground_truth, question.traces, question.id) == ("4", ("x", "y"), "key")
    assert question.answer_was_number


def test_a_named_column_has_to_exist():
    with pytest.raises(ConfigError) as caught:
        read(PLAIN, trace="completion")
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{WHERE}: columns.trace names a column that the first row does not have, "
        "got 'completion'. Fix: name one of prompt, answer"
    )


def test_columns_are_those_of_the_schema_where_none_is_named():
    columns = fill_columns(Columns(trace="b"), schema="gsm8k", first_row={"b": 1}, where=WHERE)
    assert dataclasses.asdict(columns) == {
        "prompt": "question",
        "answer": "answer",
        "options": None,
        "trace": "b",
        "logprobs": None,
        "id": None,
        "data_source": None,
    }


@pytest.mark.case(15)
@pytest.mark.parametrize("field", ["prompt", "answer"])
def test_a_missing_or_null_field_names_its_column_and_those_found(field):
    row = {key: value for key, value in (PLAIN | {"other": 1}).items() if key != field}
    found = ", ".join(row)
    message = refusal(row)
    assert message.startswith(f"{field} is missing or null (column {field}). Fix: ")
    assert f"columns.{field} (found: {found})" in message
    for nothing in (None, float("nan")):
        assert refusal(PLAIN | {field: nothing}).startswith(f"{field} is missing or null")


def test_a_missing_nested_field():
    message = refusal(LUFFY | {"reward_model": {"style": "rule"}})
    assert message.startswith("answer is missing or null (column reward_model.ground_truth)")
    assert refusal(LUFFY | {"reward_model": None}).startswith("answer is missing or null")


@pytest.mark.case(15)
@pytest.mark.parametrize("field", ["prompt", "answer"])
@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_field(field, empty):
    assert refusal(PLAIN | {field: empty}).startswith(f"{field} is empty, got {empty!r}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt": 5}, "prompt is not text, got 'int'"),
        (
            {"prompt": []},
            "prompt does not end with a user message, or with the answer to one, got []",
        ),
        ({"prompt": ["2+2?"]}, "prompt holds something that is no message with role and content"),
        ({"prompt": [{"role": "user"}]}, "prompt (user message) is not text, got 'NoneType'"),
        (
            {"prompt": [USER, {"role": "tool", "content": "4"}]},
            "prompt does not end with a user message, or with the answer to one, got ['user', "
            "'tool']",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "4"}]},
            "prompt does not end with a user message, or with the answer to one, got ['assistant']",
        ),
        (
            {"prompt": [USER, {"role": "assistant", "content": "4"}], "trace": "5"},
            "prompt ends with an answer, and there is an expert trace, got 'trace'",
        ),
        (
            {"prompt": [USER, {"role": "assistant", "content": "4", "tool_calls": [{}]}]},
            "prompt (assistant message) has tool_calls beside its content",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "prompt holds a part that is no text, got {'type': 'image_url'}",
        ),
        ({"prompt": "a\ud800"}, "prompt holds half of a surrogate pair"),
        ({"id": "\ud800"}, "id holds half of a surrogate pair"),
        ({"data_source": "\ud800"}, "data_source holds half of a surrogate pair"),
        ({"more": {"a": ["\udfff"]}}, "a further column holds half of a surrogate pair"),
        (
            {"prompt": [{"role": "\ud800", "content": "a"}, USER]},
            "the role of a message holds half of a surrogate pair",
        ),
        ({"trace": "x" * 4_000_001}, "expert trace has 4000001 characters, more than the 4000000"),
        ({"answer": True}, "answer is not text, got 'bool'"),
        ({"answer": ["4"]}, "answer is not text, got 'list'"),
        ({"trace": ""}, "expert trace is empty, got ''"),
        ({"trace": 4}, "expert trace is not text, got 'int'"),
        ({"trace": ["a", None]}, "expert trace is not text, got 'NoneType'"),
        ({"trace": [USER]}, "expert trace is not one assistant message, got ['user']"),
        ({"trace": ["a", USER]}, "expert trace is not one assistant message, got [None, 'user']"),
        ({"trace": "a", "logprobs": -1.0}, "logprobs is not a list, got 'float'"),
        ({"trace": "a", "logprobs": [-1.0, 0.3]}, "logprobs are nats, finite and at most 0, got 0"),
        ({"trace": "a", "logprobs": [float("nan")]}, "logprobs are nats, finite and at most 0"),
        ({"trace": "a", "logprobs": [-float("inf")]}, "logprobs are nats, finite and at most 0"),
        ({"trace": "a", "logprobs": [[-1.0], None]}, "logprobs are of 2 expert traces, not of 1"),
        ({"trace": None, "logprobs": [-1.0]}, "logprobs are of 1 expert traces, not of 0"),
        ({"trace": ["a", "b"], "logprobs": [[-1.0], 0.5]}, "logprobs is not a list, got 'float'"),
    ],
)
def test_a_field_of_the_wrong_kind(changes, expected):
    assert refusal(PLAIN | changes).startswith(expected)


def test_a_long_value_is_shown_in_part():
    message = refusal(PLAIN | {"prompt": [{"text": "x" * 10_000}]})
    assert len(message) < 250


@pytest.mark.case(14)
@pytest.mark.parametrize(
    ("answer", "text"), [(4, "4"), (142.0, "142.0"), (" 4 ", "4"), (-0.5, "-0.5")]
)
def test_a_number_becomes_text(answer, text):
    question = read(PLAIN | {"answer": answer})
    assert question.ground_truth == text
    assert question.answer_was_number is (not isinstance(answer, str))


def test_logprobs_of_one_and_of_several_traces():
    assert read(PLAIN | {"trace": "a", "logprobs": [-1, 0]}).logprobs == ((-1.0, 0.0),)
    several = {"trace": ["a", "b", "c"], "logprobs": [[-1.0], [-2.0, -3.0], None]}
    assert read(PLAIN | several).logprobs == ((-1.0,), (-2.0, -3.0), None)


def test_what_the_schema_has_no_use_for_is_kept():
    luffy = {**LUFFY, "extra_info": {"split": "default", "index": 17, "tests": ["assert f(1)"]}}
    assert read(luffy).columns == {
        "ability": "math",
        "reward_model": {"style": "rule"},
        "extra_info": {"split": "default", "tests": ["assert f(1)"]},
    }
    assert luffy["extra_info"]["index"] == 17
    assert read(GSM8K).columns == {}
    assert read(OPENR1).columns == {}
    row = {"prompt": "2+2?", "gold.a": "4", "gold": {"a": 1}, "keys": ["x"]}
    assert read(row, answer="gold.a").columns == {"gold": {"a": 1}, "keys": ["x"]}


@pytest.mark.parametrize("row", [{"prompt": "2+2?"}, {"prompt": "2+2?", "answer": ""}])
def test_a_gold_is_missed_only_where_one_is_read(row):
    assert "answer is" in refusal(row)
    columns = fill_columns(Columns(), schema="plain", first_row=row, where=WHERE)
    question = read_question(row, where=WHERE, schema="plain", columns=columns, needs_answer=False)
    assert (question.ground_truth, question.answer_was_number) == ("", False)
    with pytest.raises(DataError, match="prompt is missing"):
        read_question({}, where=WHERE, schema="plain", columns=columns, needs_answer=False)
