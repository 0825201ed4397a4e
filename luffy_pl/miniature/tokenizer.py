"""The tokenizer of a small world: one token a word, no spaces, text and ids one to one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from luffy_pl.miniature.world import END_OF_THINK, OPENERS, THINK

PAD, EOS = "<pad>", "<eos>"
USER, BOOK, ASSISTANT = "<user>", "<book>", "<assistant>"

# Left out when a text is decoded with skip_special_tokens=True. The think tags are not among
# them: a verifier has to see where the thought ends.
SPECIAL = (PAD, EOS, USER, BOOK, ASSISTANT)
TAGS = (THINK, END_OF_THINK)
WORDS = ("\\boxed{", "}", *OPENERS, *"0123456789+-=?")
VOCABULARY = (*SPECIAL, *TAGS, *WORDS)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}<user>{{ message['content'] }}"
    "{%- elif message['role'] == 'assistant' -%}<assistant>{{ message['content'] }}<eos>"
    "{%- else -%}{{ raise_exception('the miniature knows no role ' + message['role']) }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant><think>{%- endif -%}"
)


def build_tokenizer(vocabulary: Sequence[str] = VOCABULARY) -> PreTrainedTokenizerFast:
    """One token for each digit, sign, tag and opener; ids follow `vocabulary`.

    It holds the special tokens and the tags; `VOCABULARY` is that of the running sums.

    A character outside the vocabulary is an error: there is no unknown token to hide it.
    """
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(vocabulary)}))
    words = "|".join(re.escape(token) for token in vocabulary if token not in {*SPECIAL, *TAGS})
    tokenizer.pre_tokenizer = Split(Regex(words), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=[USER, BOOK, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
