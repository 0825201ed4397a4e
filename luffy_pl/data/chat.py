"""From messages to the text a model sees: chat templates and `<think>` live only here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:
    # Where a module has settings, the parser imports what it names for type checkers alone.
    Tokenizer = Any

Message = dict[str, str]

THINK = "<think>"

# Llama's template prints today's date unless it is given one: a prompt must not change overnight.
TEMPLATE_DATE = "26 Jul 2024"


def with_chat_template(tokenizer: Tokenizer, file: str | None) -> Tokenizer:
    """The tokenizer with the Jinja template in `file`; the given one is left as it is."""
    if file is None:
        return tokenizer
    try:
        template = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            "chat_template",
            f"cannot be read ({type(error).__name__})",
            value=file,
            fix="give the path of a Jinja file in UTF-8",
        ) from None
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def with_system_prompt(messages: Sequence[Message], system_prompt: str | None) -> list[Message]:
    """Replace the system message; None keeps the row's own, "" drops it."""
    if system_prompt is None:
        return list(messages)
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": system_prompt}, *others] if system_prompt else others


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The prompt as text, up to the point where the model begins to answer."""
    if not tokenizer.chat_template:
        raise ModelError(
            "chat_template",
            "the tokenizer has no chat template",
            value=tokenizer.name_or_path,
            fix="chat_template=<Jinja file>, or an instruction-tuned tokenizer",
        )
    text = _render(tokenizer, messages, add_generation_prompt=True)
    if text == _render(tokenizer, messages, add_generation_prompt=False):
        raise ModelError(
            "chat_template",
            "the template ignores add_generation_prompt, so nothing opens the model's turn",
            value=text[-60:],
            fix="end it with {% if add_generation_prompt %}<assistant header>{% endif %}",
        )
    return text


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of texts that already hold their special tokens.

    The template writes BOS itself; a tokenizer left to its habit would add a second one.
    """
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
    return [tuple(row) for row in ids["input_ids"]]


def strip_think_prefix(trace_text: str, prompt_text: str) -> str:
    """The trace without the `<think>` that the prompt already ends with.

    Where the prompt opens the thought, no opening is left in the trace, however often it
    repeats one; of the newlines behind it, those that the prompt brings are removed too.
    Elsewhere the trace stays as it is.
    """
    if not prompt_text.rstrip().endswith(THINK):
        return trace_text
    newlines = prompt_text.rpartition(THINK)[2]
    while trace_text.lstrip().startswith(THINK):
        trace_text = trace_text.lstrip().removeprefix(THINK)
        if trace_text.startswith("\r\n"):
            trace_text = trace_text.removeprefix("\r")
        trace_text = trace_text.removeprefix(newlines)
    return trace_text


def _render(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool
) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=TEMPLATE_DATE,
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        reason = str(error).partition("\n")[0]
        raise ModelError(
            "chat_template",
            f"the template cannot render the roles {roles} ({reason})",
            fix='correct the template, or drop the system message with system_prompt=""',
        ) from None
