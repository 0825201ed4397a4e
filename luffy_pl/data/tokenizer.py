"""The tokenizer of a model, checked against it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from luffy_pl.errors import ModelError, first_line
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.process.hub import hub_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def load_tokenizer(
    model_path: str, *, remote_code: str | None = None, where: str = "model.policy.path"
) -> PreTrainedTokenizerBase:
    """The model's tokenizer, or one line about why not.

    Args:
        remote_code: commit of the model whose own code is run; None: none is.
        where: the setting that names the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    code, problem = code_arguments(remote_code), hub_problem(model_path)
    if remote_code is not None:
        log.warning("%s: code of commit %s is run", model_path, remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path, **code)
        config = AutoConfig.from_pretrained(model_path, **code)
    except (OSError, ValueError) as error:
        if problem is not None:
            raise not_here(model_path, problem, where) from error
        raise ModelError(
            where,
            f"no tokenizer can be loaded ({first_line(error)})",
            value=model_path,
            fix="give a Hugging Face folder with a tokenizer, or a hub name",
        ) from error
    vocab_size = config.get_text_config().vocab_size
    if len(tokenizer) > vocab_size:
        raise ModelError(
            where,
            f"the tokenizer has {len(tokenizer)} tokens, the model only {vocab_size}",
            value=model_path,
            fix="use the tokenizer the model was trained with, or resize its embeddings",
        )
    return tokenizer


def check_same_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model_path: str, *, where: str
) -> None:
    """Refuse a teacher whose token ids mean something else than the policy's."""
    own, other = tokenizer.get_vocab(), load_tokenizer(model_path, where=where).get_vocab()
    differing = sorted(own.items() ^ other.items())
    if differing:
        token = differing[0][0]
        raise ModelError(
            where,
            f"its tokenizer is not the policy's: token {token!r} has id {other.get(token)} there "
            f"and {own.get(token)} here",
            value=model_path,
            fix="use a teacher with the policy's tokenizer",
        )


def not_here(model_path: str, problem: str, where: str) -> ModelError:
    """The error for a model that only the hub has, and the hub cannot be asked."""
    return ModelError(
        where,
        f"is neither a folder here nor in the cache of the hub, and {problem}",
        value=model_path,
        fix=f"give a folder, or where there is a network: hf download {model_path}",
    )


def generation_stop_ids(model_path: str) -> list[int]:
    """EOS ids that the model's generation settings add, such as the end of a turn."""
    from transformers import GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:
        return []
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a response: the one that ends a trace, and the model's own."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "model.policy.path", "the tokenizer has no EOS token", fix="set eos_token in it"
        )
    return sorted({tokenizer.eos_token_id, *generation_stop_ids(tokenizer.name_or_path)})


def longest_context(model_path: str, *, remote_code: str | None = None) -> int | None:
    """Tokens that prompt and answer may have together by the model's own settings; None: no limit.

    Where positions are scaled it is the largest number that an engine could read from them.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_path, **code_arguments(remote_code))
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    factor = (getattr(text, "rope_parameters", None) or {}).get("factor") or 1.0
    return None if positions is None else int(positions * max(1.0, factor))
