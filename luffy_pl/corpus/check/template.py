"""What the model sees, and what its template does around it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from luffy_pl.corpus.check.rows import CheckedRow
from luffy_pl.data.chat import ANSWER, Rendering
from luffy_pl.data.tokenizer import generation_stop_ids
from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def segments(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> list[tuple[str, bool]]:
    """The text of tokens in pieces; True for a special token, which then stands alone."""
    special = set(tokenizer.all_special_ids) | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    pieces: list[tuple[str, bool]] = []
    for is_special, run in groupby(ids, key=lambda token: token in special):
        for part in [[token] for token in run] if is_special else [list(run)]:
            text = tokenizer.decode(
                part, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            pieces.append((text, is_special))
    return pieces


def template_notes(rendering: Rendering, model_path: str, row: CheckedRow) -> list[str]:
    """What is not wrong in itself, and worth knowing before training."""
    notes, tokenizer = [], rendering.tokenizer
    if rendering.kwargs:
        given = ", ".join(f"{name}={value!r}" for name, value in rendering.kwargs.items())
        notes.append(f"the template is given {given} (chat_template_kwargs)")
    decoded = tokenizer.decode(
        row.prompt_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    if decoded != row.prompt_text:
        notes.append("the tokenizer changes texts (encoding and decoding is not the identity)")
    bos = tokenizer.bos_token_id
    if bos is not None and list(row.prompt_ids[:2]) == [bos, bos]:
        notes.append("the template writes BOS twice")
    notes += turn_notes(rendering, row)
    stops = generation_stop_ids(model_path)
    if stops and tokenizer.eos_token_id not in stops:
        names = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(stops)))
        notes.append(
            f"traces end with {tokenizer.eos_token!r}, and the model's generation settings stop at "
            f"{names}: both end a response"
        )
    if tokenizer.pad_token_id is None:
        notes.append("no pad token: this project never needs one, other programs may")
    elif tokenizer.pad_token_id == tokenizer.eos_token_id:
        notes.append("pad is EOS: harmless here, as lengths are kept and never read from padding")
    return notes


def turn_notes(rendering: Rendering, row: CheckedRow) -> list[str]:
    """Whether a finished turn begins as the prompt ends, and what closes it."""
    answered = [*row.question.messages, {"role": "assistant", "content": ANSWER}]
    try:
        (text,) = rendering.texts([answered], add_generation_prompt=False)
    except ModelError:
        return ["the template cannot render an assistant's turn, so it serves single turns only"]
    if ANSWER not in text:
        return ["the template leaves out the assistant's turn, so it serves single turns only"]
    before, _, behind = text.rpartition(ANSWER)
    notes = []
    if not before.endswith(row.prompt_text[-12:]):
        notes.append(
            f"the template begins an answer with {row.prompt_text[-30:]!r} and a finished turn "
            f"with {before[-30:]!r}, so an earlier turn of a chat reads differently"
        )
    closing = behind.strip()
    if closing and closing != rendering.tokenizer.eos_token:
        notes.append(f"the template closes a turn with {closing!r}, a trace with EOS alone")
    return notes
