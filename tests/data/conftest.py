import json

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def make_tokenizer():
    """One token per byte, and a habit of adding BOS; ids: <bos> 256, <eos> 257."""

    def make(chat_template=TEMPLATE, **tokens):
        alphabet = sorted(ByteLevel.alphabet())
        tokenizer = Tokenizer(BPE({char: i for i, char in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        tokenizer.decoder = ByteLevelDecoder()
        tokenizer.add_special_tokens([AddedToken("<bos>"), AddedToken("<eos>")])
        tokenizer.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 256)])
        special = {"bos_token": "<bos>", "eos_token": "<eos>"} | tokens
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, chat_template=chat_template, **special
        )

    return make


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer()


@pytest.fixture
def thinking_tokenizer(make_tokenizer):
    return make_tokenizer(TEMPLATE.replace("[assistant]", "[assistant]<think>\n"))


@pytest.fixture
def write_jsonl(tmp_path):
    def write(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write
