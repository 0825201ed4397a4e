import json
import pickle

import pytest

from luffy_pl.data.columns import Columns
from luffy_pl.data.fingerprint import fingerprint
from luffy_pl.data.prompts import NamedCount, load_prompts
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError, DataError, ModelError
from luffy_pl.miniature.tokenizer import build_tokenizer
from luffy_pl.records import Prompt

EOS = 257


def row(question="2+2?", answer="4", **others):
    return {"prompt": question, "answer": answer} | others


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as caught:
        load_prompts(*args, **kwargs)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "\n" not in message
    assert ". Fix: " in message
    return message


def dropped(loaded):
    return {reason: tally.count for reason, tally in loaded.report.dropped.items()}


def test_a_prompt_is_rendered_and_tokenised_once(tokenizer, write_jsonl):
    path = write_jsonl(row(id="a", data_source="math"))
    loaded = load_prompts(PromptSource(path, system_prompt="Hi"), tokenizer)
    text = "<bos>[system]Hi[user]2+2?[assistant]"
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert loaded.prompts == (Prompt("math/a", text, ids, "4", "math"),)
    assert loaded.traces == {}
    assert loaded.report.lines() == ["1 rows: 1 prompts, 0 expert traces"]


def test_a_trace_continues_its_prompt(thinking_tokenizer, write_jsonl):
    path = write_jsonl(row(id="a", trace="<think>\nSo 4</think>4"), row("1+1?", id="b"))
    loaded = load_prompts(PromptSource(path), thinking_tokenizer, max_response_tokens=20)
    (prompt, _), (trace,) = loaded.prompts, loaded.traces["a"]
    whole = thinking_tokenizer.decode(prompt.token_ids + trace.token_ids)
    assert whole == "<bos>[user]2+2?[assistant]<think>\nSo 4</think>4<eos>"
    assert list(loaded.traces) == ["a"]
    assert loaded.report.traces == 1


def test_batches_keep_traces_with_their_prompts(tokenizer, write_jsonl):
    rows = [row(f"{n}?", str(n), id=str(n), trace=[f"t{n}"] * (n % 3) or None) for n in range(600)]
    loaded = load_prompts(PromptSource(write_jsonl(*rows)), tokenizer, max_response_tokens=9)
    assert [prompt.id for prompt in loaded.prompts] == [str(n) for n in range(600)]
    for n, prompt in enumerate(loaded.prompts):
        assert f"]{n}?[" in prompt.text
        assert [trace.text for trace in loaded.traces.get(str(n), ())] == [f"t{n}"] * (n % 3)


def test_traces_are_read_only_where_they_are_wanted(make_tokenizer, write_jsonl):
    path = write_jsonl(row(trace="x<eos>y"))
    assert load_prompts(PromptSource(path), make_tokenizer(eos_token=None)).traces == {}
    with pytest.raises(ConfigError, match=r"rows\.jsonl: require_trace is set") as caught:
        load_prompts(PromptSource(path, require_trace=True), make_tokenizer())
    assert caught.value.exit_code == 2


@pytest.mark.case(20)
def test_a_long_prompt_is_dropped_and_counted(tokenizer, write_jsonl):
    # <bos>[user]..[assistant] is 1 + 6 + 11 = 18 tokens around the question.
    path = write_jsonl(row("ab", id="fits"), row("abc", id="long"))
    loaded = load_prompts(PromptSource(path, max_prompt_tokens=20), tokenizer)
    assert [prompt.id for prompt in loaded.prompts] == ["fits"]
    assert len(loaded.prompts[0].token_ids) == 20
    assert loaded.report.dropped == {
        "prompt_too_long": NamedCount(1, ["rows.jsonl:2 (21 tokens, at most 20 fit)"])
    }


@pytest.mark.case(19)
@pytest.mark.parametrize(("policy", "num_prompts", "num_traces"), [("drop", 2, 1), ("keep", 2, 2)])
def test_a_long_trace(tokenizer, write_jsonl, policy, num_prompts, num_traces):
    path = write_jsonl(row("a", id="a", trace="123"), row("b", id="b", trace="1234"))
    source = PromptSource(path, too_long_trace=policy)
    loaded = load_prompts(source, tokenizer, max_response_tokens=4)  # 3 and EOS
    assert len(loaded.prompts) == num_prompts
    assert loaded.report.traces == len(loaded.traces) == num_traces
    assert all(traces[0].token_ids[-1] == EOS for traces in loaded.traces.values())
    expected = {"too_long": NamedCount(1, ["b"])} if policy == "drop" else {}
    assert loaded.report.dropped_traces == expected


def test_a_long_trace_can_be_an_error(tokenizer, write_jsonl):
    path = write_jsonl(row("a", trace="123"), row("b", trace="1234"))
    source = PromptSource(path, too_long_trace="error")
    message = refusal(source, tokenizer, max_response_tokens=4)
    assert message.startswith(f"{path}:2: the expert trace has 5 tokens, more than ")


def test_prompts_without_a_usable_trace_can_be_left_out(tokenizer, write_jsonl):
    path = write_jsonl(
        row("a", id="a", trace="1"), row("b", id="b"), row("c", id="c", trace="12345")
    )
    source = PromptSource(path, require_trace=True)
    loaded = load_prompts(source, tokenizer, max_response_tokens=4)
    assert [prompt.id for prompt in loaded.prompts] == ["a"]
    assert loaded.report.dropped == {"no_trace": NamedCount(2, ["b", "c"])}


def test_logprobs_that_do_not_fit_their_trace(tokenizer, write_jsonl):
    path = write_jsonl(
        row("a", id="a", trace="12", logprobs=[-0.1, -0.2, -0.3]),
        row("b", trace="12", logprobs=[-0.1, -0.2]),
    )
    good = load_prompts(PromptSource(path, limit=1), tokenizer, max_response_tokens=9)
    assert good.traces["a"][0].logprobs == (-0.1, -0.2, -0.3)
    message = refusal(PromptSource(path), tokenizer, max_response_tokens=9)
    assert message.startswith(f"{path}:2: the expert trace has 3 tokens, EOS included, and 2 ")


def test_logprobs_stay_with_their_trace_when_another_is_dropped(tokenizer, write_jsonl):
    path = write_jsonl(row(id="a", trace=["12345", "1"], logprobs=[[-1.0] * 6, [-2.0] * 2]))
    loaded = load_prompts(PromptSource(path), tokenizer, max_response_tokens=4)
    (trace,) = loaded.traces["a"]
    assert (trace.text, trace.logprobs) == ("1", (-2.0, -2.0))


def test_the_first_bad_row_ends_the_load(tokenizer, write_jsonl):
    path = write_jsonl(row(), row(answer=None), row(question=""))
    message = refusal(PromptSource(path), tokenizer)
    assert message.startswith(f"{path}:2: answer is missing or null (column answer)")


@pytest.mark.case(15)
def test_bad_rows_can_be_skipped_within_a_share(tokenizer, write_jsonl):
    path = write_jsonl(row("a"), row(answer=None), row("c", trace="x<eos>y"), row("d"))
    source = PromptSource(path, on_bad_row="skip", max_bad_share=0.5)
    loaded = load_prompts(source, tokenizer, max_response_tokens=9)
    assert [prompt.id for prompt in loaded.prompts] == ["rows.jsonl:1", "rows.jsonl:4"]
    assert dropped(loaded) == {"bad_row": 2}
    first, second = loaded.report.dropped["bad_row"].first
    assert first.startswith(f"{path}:2: answer is missing")
    assert second.startswith(f"{path}:3: the expert trace holds EOS")

    source = PromptSource(path, on_bad_row="skip", max_bad_share=0.4)
    message = refusal(source, tokenizer, max_response_tokens=9)
    assert message.startswith(f"{path}: 2 of 4 rows are bad, more than max_bad_share=0.4")
    assert f"the first: {path}:2: answer is missing" in message


def test_a_row_that_the_template_fails_on_is_a_bad_row(make_tokenizer, write_jsonl):
    refuses = "{% if 'no' in messages[-1].content %}{{ raise_exception('Not this') }}{% endif %}"
    tokenizer = make_tokenizer()
    tokenizer.chat_template = refuses + tokenizer.chat_template
    path = write_jsonl(row("a"), row("no"), row("c"), row("no no"), row("e"))
    with pytest.raises(ModelError, match=rf"\(Not this\), got '{path}:2'"):
        load_prompts(PromptSource(path), tokenizer)
    source = PromptSource(path, on_bad_row="skip", max_bad_share=0.4)
    loaded = load_prompts(source, tokenizer)
    assert [prompt.text for prompt in loaded.prompts] == [
        f"<bos>[user]{text}[assistant]" for text in ("a", "c", "e")
    ]
    assert dropped(loaded) == {"bad_row": 2}
    assert f"got '{path}:4'" in loaded.report.dropped["bad_row"].first[1]
    # A template that no row could change is none of the data's faults.
    with pytest.raises(ModelError, match="Expected an expression"):
        load_prompts(source, make_tokenizer("{% if %}"))


@pytest.mark.case(13)
def test_broken_json_is_never_skipped(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n{\n")
    source = PromptSource(str(path), on_bad_row="skip", max_bad_share=1)
    assert refusal(source, tokenizer).startswith(f"{path}:2: invalid JSON: ")


@pytest.mark.case(14)
def test_numbers_as_answers_are_reported(tokenizer, write_jsonl):
    path = write_jsonl(row("a", "1", id="a"), row("b", 2, id="b"))
    loaded = load_prompts(PromptSource(path), tokenizer)
    assert [prompt.ground_truth for prompt in loaded.prompts] == ["1", "2"]
    assert loaded.report.noted == {"number_as_answer": NamedCount(1, ["b"])}


@pytest.mark.case(21)
def test_duplicate_prompts_are_counted_and_can_be_dropped(tokenizer, write_jsonl):
    path = write_jsonl(row("a", id="1"), row("b", id="2"), row("a", id="3"), row("a", id="4"))
    kept = load_prompts(PromptSource(path), tokenizer)
    assert len(kept.prompts) == 4
    assert kept.report.noted == {"duplicate_prompt": NamedCount(2, ["3", "4"])}
    assert "kept, but noted: 2 duplicate_prompt, first 3, 4" in kept.report.lines()
    fewer = load_prompts(PromptSource(path, duplicates="drop"), tokenizer)
    assert [prompt.id for prompt in fewer.prompts] == ["1", "2"]
    assert fewer.report.dropped == {"duplicate_prompt": NamedCount(2, ["3", "4"])}


def test_rows_of_another_source_are_dropped_and_counted(tokenizer, write_jsonl):
    path = write_jsonl(
        row("a", id="1", data_source="x"), row("b", id="1", data_source="y"), row("c", id="2")
    )
    loaded = load_prompts(PromptSource(path, data_source="y"), tokenizer)
    assert [prompt.id for prompt in loaded.prompts] == ["y/1"]
    assert loaded.report.dropped == {"other_source": NamedCount(2, ["x/1", "2"])}
    message = refusal(PromptSource(path, data_source="z"), tokenizer)
    assert message.startswith(f"{path}: no prompt is left of 3 rows (3 other_source)")
    assert "data_source" in message.partition("Fix: ")[2]


def test_a_duplicate_counts_only_beside_a_prompt_that_was_kept(tokenizer, write_jsonl):
    path = write_jsonl(row("a", id="1"), row("a", id="2", trace="x"))
    source = PromptSource(path, duplicates="drop", require_trace=True)
    loaded = load_prompts(source, tokenizer, max_response_tokens=9)
    assert [prompt.id for prompt in loaded.prompts] == ["2"]


def test_repeated_ids_are_numbered_in_the_order_of_the_rows(tokenizer, write_jsonl):
    names = ["7", "7", "8", "7", "7#2", "7", "9", "9#2", "9"]
    path = write_jsonl(*(row(f"q{n}", id=name) for n, name in enumerate(names)))
    loaded = load_prompts(PromptSource(path), tokenizer)
    ids = [prompt.id for prompt in loaded.prompts]
    assert ids == ["7", "7#2", "8", "7#3", "7#2#2", "7#4", "9", "9#2", "9#3"]
    assert loaded.report.noted["repeated_id"].count == 5


def test_ids_do_not_move_when_other_prompts_are_dropped(tokenizer, write_jsonl):
    path = write_jsonl(row("a" * 50, id="7"), row("b", id="7"))
    loaded = load_prompts(PromptSource(path, max_prompt_tokens=20), tokenizer)
    assert [prompt.id for prompt in loaded.prompts] == ["7#2"]


def test_every_row_is_accounted_for(tokenizer, write_jsonl):
    path = write_jsonl(
        row("a", id="a", trace="1"),
        row("a", id="dup", trace="1"),
        row("b" * 99, id="long", trace="1"),
        row("c", id="bare"),
        row("d", answer=""),
    )
    source = PromptSource(
        path,
        max_prompt_tokens=50,
        require_trace=True,
        duplicates="drop",
        on_bad_row="skip",
        max_bad_share=1,
    )
    report = load_prompts(source, tokenizer, max_response_tokens=9).report
    assert report.rows == 5 == report.prompts + sum(t.count for t in report.dropped.values())
    assert set(report.dropped) == {"duplicate_prompt", "prompt_too_long", "no_trace", "bad_row"}
    assert json.loads(json.dumps(report.as_dict()))["dropped"]["no_trace"]["first"] == ["bare"]


def test_the_report_names_only_the_first_few(tokenizer, write_jsonl):
    path = write_jsonl(*(row("a" * 50, id=str(n)) for n in range(20)), row("b"))
    report = load_prompts(PromptSource(path, max_prompt_tokens=20), tokenizer).report
    assert report.dropped["prompt_too_long"].count == 20
    assert [name.partition(" ")[0] for name in report.dropped["prompt_too_long"].first] == [
        f"rows.jsonl:{number}" for number in range(1, 6)
    ]


def test_no_prompt_left(tokenizer, write_jsonl):
    path = write_jsonl(row("a" * 50), row("b" * 50))
    message = refusal(PromptSource(path, max_prompt_tokens=20), tokenizer)
    assert message.startswith(f"{path}: no prompt is left of 2 rows (2 prompt_too_long)")
    assert message.endswith("Fix: raise max_prompt_tokens or data.engine.max_model_len")
    source = PromptSource(path, require_trace=True)
    message = refusal(source, tokenizer, max_response_tokens=9)
    assert "Fix: name the column of the traces in columns.trace, or set" in message


def test_a_limit_reads_no_further(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n{\n")
    assert len(load_prompts(PromptSource(str(path), limit=1), tokenizer).prompts) == 1


def test_the_schema_can_be_named(tokenizer, write_jsonl):
    path = write_jsonl({"problem": "2+2?", "answer": "4", "solution": "It is 4"})
    source = PromptSource(path, schema="openr1", columns=Columns(trace="solution"))
    loaded = load_prompts(source, tokenizer, max_response_tokens=20)
    assert loaded.traces["rows.jsonl:1"][0].text == "It is 4"


@pytest.mark.parametrize(
    ("setting", "value"), [("max_prompt_tokens", 0), ("limit", -1), ("max_bad_share", 1.5)]
)
def test_a_setting_out_of_range(setting, value):
    with pytest.raises(ConfigError) as caught:
        PromptSource("x.jsonl", **{setting: value})
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"x.jsonl: {setting} must be ")
    assert f", got {value}. Fix: " in str(caught.value)


def test_columns_come_along_and_change_no_fingerprint(tokenizer, write_jsonl):
    bare = row(trace="4", id=1)
    more = {**bare, "tests": {"a": [1, 2]}}
    plain, loaded = (
        load_prompts(PromptSource(write_jsonl(one)), tokenizer, max_response_tokens=99)
        for one in (bare, more)
    )
    [prompt] = pickle.loads(pickle.dumps(loaded.prompts))
    assert prompt.columns == {"tests": {"a": [1, 2]}}
    assert fingerprint(loaded) == fingerprint(plain)
    assert prompt == plain.prompts[0]
    assert hash(prompt) == hash(plain.prompts[0])
    assert "tests" not in repr(prompt)


# <bos>[user]..[assistant] is 18 tokens around a question.
def test_a_prompt_that_leaves_no_room_for_an_answer_is_dropped(tokenizer, write_jsonl):
    path = write_jsonl(row("ab"), row("abc"))
    loaded = load_prompts(PromptSource(path), tokenizer, max_model_len=21)
    assert [len(prompt.token_ids) for prompt in loaded.prompts] == [20]
    assert loaded.report.lines()[1] == (
        "dropped: 1 prompt_too_long, first rows.jsonl:2 (21 tokens, at most 20 fit)"
    )


def test_an_evaluation_is_not_shortened(tokenizer, write_jsonl):
    path = write_jsonl(row("ab"), row("abc"))
    with pytest.raises(DataError) as caught:
        load_prompts(PromptSource(path), tokenizer, max_model_len=21, beyond_window="error")
    assert str(caught.value).startswith(
        f"{path}:2: the prompt has 21 tokens, and with data.engine.max_model_len=21 no answer fits"
    )
    # Unless its own settings say so, which is counted.
    source = PromptSource(path, max_prompt_tokens=20)
    loaded = load_prompts(source, tokenizer, max_model_len=21, beyond_window="error")
    assert loaded.report.dropped["prompt_too_long"].count == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prompt": "1+1=\0?"}, "prompt"),
        ({"prompt": "1+1=?", "trace": "</think>Ä"}, "expert trace"),
    ],
)
def test_what_the_tokenizer_has_no_token_for(write_jsonl, changes, what):
    good = {"prompt": "1+1=?", "answer": "2", "trace": "</think>\\boxed{2}"}
    path = write_jsonl(good, {**good, **changes}, good)
    digits = build_tokenizer()
    message = refusal(PromptSource(path), digits, max_response_tokens=9)
    assert message.startswith(f"{path}:2: the tokenizer has no token for a part of the {what}")
    source = PromptSource(path, on_bad_row="skip", max_bad_share=1)
    loaded = load_prompts(source, digits, max_response_tokens=9)
    assert (len(loaded.prompts), loaded.report.dropped["bad_row"].count) == (2, 1)


def test_a_trace_ends_at_every_token_that_ends_a_response(make_tokenizer, write_jsonl, tmp_path):
    tokenizer = make_tokenizer()
    newline = tokenizer.convert_tokens_to_ids("\u010a")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, newline]}))
    path = write_jsonl(row(trace="It is 4"), row(trace="It is 4\nor 5"))
    assert len(load_prompts(PromptSource(path), tokenizer, max_response_tokens=20).prompts) == 2
    tokenizer.name_or_path = str(tmp_path)
    message = refusal(PromptSource(path), tokenizer, max_response_tokens=20)
    assert message.startswith(
        f"{path}:2: the expert trace holds a stop token (id {newline}) as token 8 of 13"
    )
