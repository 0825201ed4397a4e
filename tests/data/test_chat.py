import pytest

from luffy_pl.data.chat import (
    encode,
    render_prompt,
    strip_think_prefix,
    with_chat_template,
    with_system_prompt,
)
from luffy_pl.errors import ModelError

SYSTEM = {"role": "system", "content": "Think."}
USER = {"role": "user", "content": "2+2?"}
BOS = 256


def refusal(call, *args):
    with pytest.raises(ModelError) as caught:
        call(*args)
    assert caught.value.exit_code == 4
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("chat_template: ")
    assert ". Fix: " in message
    return message


def test_a_prompt_ends_where_the_model_begins(tokenizer):
    assert render_prompt(tokenizer, [SYSTEM, USER]) == "<bos>[system]Think.[user]2+2?[assistant]"


def test_special_tokens_are_not_added_twice(tokenizer):
    text = render_prompt(tokenizer, [USER])
    assert tokenizer(text)["input_ids"][:2] == [BOS, BOS]  # what it would do by itself
    (ids,) = encode(tokenizer, [text])
    assert ids[0] == BOS
    assert ids.count(BOS) == 1
    assert tokenizer.decode(ids) == text


def test_encoding_many_is_encoding_each(tokenizer):
    texts = ["a", "longer text", "é"]
    assert encode(tokenizer, texts) == [encode(tokenizer, [text])[0] for text in texts]
    assert encode(tokenizer, []) == []


@pytest.mark.case(22)
def test_a_tokenizer_without_template(make_tokenizer):
    message = refusal(render_prompt, make_tokenizer(None), [USER])
    assert "the tokenizer has no chat template" in message
    assert "chat_template=<Jinja file>" in message


@pytest.mark.case(23)
def test_a_template_without_generation_prompt(make_tokenizer):
    tokenizer = make_tokenizer("{% for message in messages %}{{ message.content }}{% endfor %}")
    message = refusal(render_prompt, tokenizer, [USER])
    assert "ignores add_generation_prompt" in message
    assert "got '2+2?'" in message


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('No system role\nhere') }}", "{% if %}", "{{ 1 + 'a' }}"]
)
def test_a_template_that_fails(make_tokenizer, template):
    message = refusal(render_prompt, make_tokenizer(template), [SYSTEM, USER])
    assert "the roles system, user (" in message


def test_a_template_from_a_file_leaves_the_given_tokenizer_alone(tmp_path, tokenizer):
    file = tmp_path / "chat.jinja"
    file.write_text("{{ messages[-1].content }}{% if add_generation_prompt %} A:{% endif %}")
    changed = with_chat_template(tokenizer, str(file))
    assert render_prompt(changed, [USER]) == "2+2? A:"
    assert render_prompt(tokenizer, [USER]).endswith("[assistant]")
    assert with_chat_template(tokenizer, None) is tokenizer


def test_a_template_file_that_cannot_be_read(tmp_path, tokenizer):
    absent = str(tmp_path / "absent.jinja")
    message = refusal(with_chat_template, tokenizer, absent)
    assert f"cannot be read (FileNotFoundError), got '{absent}'" in message


@pytest.mark.parametrize(
    "dated",
    [
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}{{ date_string }}",
        "{{ strftime_now('%d %b %Y') }}",
    ],
    ids=["Llama", "SmolLM3"],
)
def test_a_template_that_asks_for_the_date_gets_a_fixed_one(make_tokenizer, dated):
    template = dated + "{% if add_generation_prompt %}A:{% endif %}"
    assert render_prompt(make_tokenizer(template), [USER]) == "26 Jul 2024A:"


@pytest.mark.parametrize(
    ("system_prompt", "expected"),
    [(None, [SYSTEM, USER]), ("", [USER]), ("New", [{"role": "system", "content": "New"}, USER])],
)
def test_the_system_prompt_of_a_row_is_kept_dropped_or_replaced(system_prompt, expected):
    assert with_system_prompt([SYSTEM, USER], system_prompt) == expected


def test_a_system_prompt_is_added_where_a_row_has_none():
    assert with_system_prompt([USER], "New")[0] == {"role": "system", "content": "New"}


@pytest.mark.case(23)
@pytest.mark.parametrize(
    ("prompt", "trace", "expected"),
    [
        # prompt + expected is what the model is trained on
        ("Q<think>\n", "<think>\nSo", "So"),
        ("Q<think>\n", "<think>\r\nSo", "So"),
        ("Q<think>\n", "<think>So", "So"),
        ("Q<think>\n", "\n<think>\nSo", "So"),
        ("Q<think>\n", "<think>\n\nSo", "\nSo"),
        ("Q<think>", "<think>\nSo", "\nSo"),
        ("Q<think>", "<think>So", "So"),
        ("Q<think>\n", "<think>\n<think>\nSo", "So"),
        ("Q<think>\n", "<think><think>So", "So"),
        # nothing to take away
        ("Q<think>\n", "So", "So"),
        ("Q<think>\n", "\nSo", "\nSo"),
        ("Q<think>\n", "So <think>", "So <think>"),
        ("Q", "<think>\nSo", "<think>\nSo"),
        ("Say <think>\n now", "<think>\nSo", "<think>\nSo"),
        ("Q<think>\n\n</think>\n\n", "<think>\nSo", "<think>\nSo"),
    ],
)
def test_a_thought_is_opened_once(prompt, trace, expected):
    assert strip_think_prefix(trace, prompt) == expected
