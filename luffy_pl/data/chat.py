"""From messages to the text a model sees: chat templates and `<think>` live only here."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from luffy_pl.data.rendering import RENDERER
from luffy_pl.data.template_worker import TODAY, TemplateFault
from luffy_pl.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:
    # Where a module has settings, the parser imports what it names for type checkers alone.
    Tokenizer = Any

Message = dict[str, str]
TemplateKwargs = Mapping[str, Any]

THINK = "<think>"
ANSWER = "The answer is 7."
"""Content of a finished turn, which shows what a template writes around an answer."""
# One int object per token id: a tokenizer returns a new one for every token, 36 bytes instead of 8,
# and 46k traces of 4k tokens would fill 6 GiB.
_TOKEN_IDS: dict[int, int] = {}
OF_A_RENDERING = {"messages", "tools", "documents", "add_generation_prompt"}


class ConversationFault(ModelError):
    """A template fails; `number` of the conversation where others can be rendered, else None."""

    number: int | None = None


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


def with_template_defaults(tokenizer: Tokenizer, kwargs: TemplateKwargs | None) -> Tokenizer:
    """The tokenizer with a template that assumes `kwargs` wherever it is not given other values.

    For programs that know nothing of this run's settings, and are to ask the model as it did.
    """
    if not kwargs or not tokenizer.chat_template:
        return tokenizer
    # Jinja reads Python's literals, and drops the newline behind a block.
    lines = [
        f"{{% if {name} is not defined %}}{{% set {name} = {value!r} %}}{{% endif %}}\n"
        for name, value in kwargs.items()
    ]
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = "".join(lines) + tokenizer.get_chat_template()
    return tokenizer


def with_system_prompt(messages: Sequence[Message], system_prompt: str | None) -> list[Message]:
    """Replace the system message; None keeps the row's own, "" drops it."""
    if system_prompt is None:
        return list(messages)
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": system_prompt}, *others] if system_prompt else others


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The prompt as text, up to the point where the model begins to answer."""
    return Rendering(tokenizer).prompts([messages])[0]


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of texts that already hold their special tokens.

    The template writes BOS itself; a tokenizer left to its habit would add a second one.
    """
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
    return [shared(row) for row in ids["input_ids"]]


def shared(token_ids: Sequence[int]) -> tuple[int, ...]:
    """The same numbers, each as the one object that stands for it everywhere."""
    return tuple(map(_TOKEN_IDS.setdefault, token_ids, token_ids))


def encode_known(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...] | None]:
    """As `encode`, and None for a text that the tokenizer has no tokens for."""
    try:
        return list(encode(tokenizer, texts))
    except Exception:  # noqa: BLE001  tokenizers raises Exception itself
        if len(texts) == 1:
            return [None]
        return [ids for text in texts for ids in encode_known(tokenizer, [text])]


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


@dataclass(frozen=True)
class Rendering:
    """A tokenizer's template, and what it is given beside the messages."""

    tokenizer: Tokenizer
    kwargs: TemplateKwargs = field(default_factory=dict)

    def prompts(
        self, conversations: Sequence[Sequence[Message]], *, places: Sequence[str] = ()
    ) -> list[str]:
        """Each conversation as text, up to the point where the model begins to answer.

        Args:
            places: `file:row` of each, for messages.

        Raises:
            ModelError: there is no template, it fails, or nothing in it opens the model's turn.
        """
        if not self.tokenizer.chat_template:
            raise ModelError(
                "chat_template",
                "the tokenizer has no chat template",
                value=self.tokenizer.name_or_path,
                fix="chat_template=<Jinja file>, or an instruction-tuned tokenizer",
            )
        texts = self.texts(conversations, add_generation_prompt=True, places=places)
        # Roles decide what a template writes around a text: one conversation shows it for all.
        of_roles = {
            tuple(message["role"] for message in messages): (messages, text)
            for messages, text in zip(reversed(conversations), reversed(texts), strict=True)
        }
        for messages, text in of_roles.values():
            _check_opening(self, messages, text)
        return texts

    def texts(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        add_generation_prompt: bool,
        places: Sequence[str] = (),
    ) -> list[str]:
        """The text of each conversation.

        Raises:
            ModelError: the template fails.
        """
        try:
            return RENDERER.render(
                self.tokenizer.get_chat_template(),
                self._names,
                conversations,
                add_generation_prompt=add_generation_prompt,
            )
        except (TemplateFault, ValueError) as error:
            number = getattr(error, "number", 0)
            roles = ", ".join(message["role"] for message in conversations[number])
            fault = ConversationFault(
                "chat_template",
                f"the template cannot render the roles {roles} ({_reason(error)})",
                value=places[number] if places else None,
                fix='correct the template, or drop the system message with system_prompt=""',
            )
            fault.number = number if getattr(error, "is_of_one", False) else None
            raise fault from None

    @property
    def _names(self) -> dict[str, Any]:
        date = f"{TODAY:%d %b %Y}"
        return {"date_string": date, **self.tokenizer.special_tokens_map, **self.kwargs}


def check_template_kwargs(
    tokenizer: Tokenizer, kwargs: TemplateKwargs | None, *, where: str
) -> None:
    """Refuse a name that the template does not read: it would change nothing, without a word."""
    if not kwargs or not tokenizer.chat_template:
        return
    try:
        names = RENDERER.names_of(tokenizer.get_chat_template())
    except (TemplateFault, ValueError) as error:
        raise ModelError(
            "chat_template", f"cannot be read ({_reason(error)})", fix="correct the template"
        ) from None
    own = OF_A_RENDERING & kwargs.keys()
    unknown = sorted(own or kwargs.keys() - names)
    if unknown:
        choice = ", ".join(sorted(names - OF_A_RENDERING - tokenizer.special_tokens_map.keys()))
        raise ConfigError(
            where,
            "names what every rendering brings itself"
            if own
            else "names something that the chat template does not read",
            value=", ".join(unknown),
            fix=f"leave it out; the template reads {choice or 'nothing more'}",
        )


def _check_opening(rendering: Rendering, messages: Sequence[Message], text: str) -> None:
    """Refuse a template in which nothing opens the model's turn.

    Most write a header for it where they are asked to. In others, as Mistral's, the user's turn
    ends with what opens the answer (`[/INST]`), and a finished turn follows it directly.
    """
    if text != rendering.texts([messages], add_generation_prompt=False)[0]:
        return
    behind = text.rpartition(messages[-1]["content"].strip())[2].strip()
    eos = rendering.tokenizer.eos_token
    header = _header_of_a_finished_turn(rendering, messages, text)
    if header or not behind or (header is None and eos and behind.endswith(eos)):
        raise ModelError(
            "chat_template",
            "the template ignores add_generation_prompt, so nothing opens the model's turn",
            value=text[-60:],
            fix="end it with {% if add_generation_prompt %}<assistant header>{% endif %}",
        )


def _header_of_a_finished_turn(
    rendering: Rendering, messages: Sequence[Message], text: str
) -> str | None:
    """What stands between a prompt and its answer, None where the template shows no answers."""
    try:
        answered = [*messages, {"role": "assistant", "content": ANSWER}]
        (finished,) = rendering.texts([answered], add_generation_prompt=False)
    except ModelError:
        return None
    if ANSWER not in finished or not finished.startswith(text.rstrip()):
        return None
    return finished.removeprefix(text.rstrip()).partition(ANSWER)[0].strip()


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)).partition("\n")[0]
