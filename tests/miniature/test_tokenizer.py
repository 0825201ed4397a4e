import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from luffy_pl.miniature.tokenizer import VOCABULARY, build_tokenizer

TOKENIZER = build_tokenizer()
USER = {"role": "user", "content": "27-6-9+9+5=?"}
ASSISTANT = {"role": "assistant", "content": "<think>so27-6=21</think>\\boxed{21}"}


def render(messages, **options):
    return TOKENIZER.apply_chat_template(messages, tokenize=False, **options)


def test_each_token_is_one_id_in_the_order_of_the_vocabulary():
    assert len(TOKENIZER) == len(VOCABULARY) == 27
    ids = [TOKENIZER.encode(token, add_special_tokens=False) for token in VOCABULARY]
    assert ids == [[number] for number in range(27)]
    assert TOKENIZER.pad_token_id == 0
    assert TOKENIZER.eos_token_id == 1


@given(st.lists(st.integers(0, 26), max_size=40))
def test_ids_to_text_and_back(ids):
    text = TOKENIZER.decode(ids, skip_special_tokens=False)
    assert text == "".join(VOCABULARY[number] for number in ids)
    assert TOKENIZER.encode(text, add_special_tokens=False) == ids


def test_the_thought_survives_where_special_tokens_are_skipped():
    ids = TOKENIZER.encode(render([USER, ASSISTANT]), add_special_tokens=False)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == (
        "27-6-9+9+5=?<think>so27-6=21</think>\\boxed{21}"
    )


def test_nothing_is_added_to_an_encoded_text():
    text = "<user>27-6=?"
    assert TOKENIZER(text)["input_ids"] == TOKENIZER.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", ["27 - 6", "hello", "sot"])
def test_a_foreign_character_is_an_error(text):
    with pytest.raises(Exception, match="WordLevel"):
        TOKENIZER.encode(text)


def test_chat_template():
    assert render([USER]) == "<user>27-6-9+9+5=?"
    assert render([USER], add_generation_prompt=True) == "<user>27-6-9+9+5=?<assistant><think>"
    assert render([USER, ASSISTANT]) == (
        "<user>27-6-9+9+5=?<assistant><think>so27-6=21</think>\\boxed{21}<eos>"
    )


def test_an_unknown_role_is_an_error():
    with pytest.raises(Exception, match="knows no role system"):
        render([{"role": "system", "content": "1"}, USER])


def test_it_loads_as_it_was_saved(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = render([USER, ASSISTANT])
    assert loaded.encode(text, add_special_tokens=False) == TOKENIZER.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.chat_template == TOKENIZER.chat_template
    assert (loaded.pad_token, loaded.eos_token) == ("<pad>", "<eos>")
