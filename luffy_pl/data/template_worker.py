"""What runs inside the worker process that renders chat templates: Jinja alone.

A template comes with a model or a file of somebody else. Jinja's sandbox keeps it away from
Python, and nothing in it bounds time and memory: `{{ 'x' * 10**10 }}` is a template.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from luffy_pl.process.killable import confine

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of the worker."""
CPU_SECONDS = 5.0
"""For one task; a busy machine makes it longer and nothing fail."""
MAX_CHARACTERS = 16_000_000
"""Length of one rendered text."""
TODAY = datetime(2024, 7, 26)
"""What a template is told the date is: a prompt must not change overnight."""

Conversation = Sequence[Mapping[str, str]]


class TemplateFault(Exception):
    """What a template did wrong, in one line, and the number of the conversation it did it with.

    `is_of_one`: it did it with that conversation, and may render others.
    """

    def __init__(self, reason: str, number: int = 0, is_of_one: bool = False) -> None:
        super().__init__(reason, number, is_of_one)
        self.reason, self.number, self.is_of_one = reason, number, is_of_one


def harden_template_worker() -> None:
    """What the worker gives up before it reads a template."""
    confine(MEMORY_LIMIT_BYTES)
    # The default of a timer's signal ends the process, also within one long operation in C.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def render_conversations(
    source: str,
    names: Mapping[str, Any],
    conversations: Sequence[Conversation],
    *,
    add_generation_prompt: bool,
) -> list[str]:
    """The text of each conversation, as `apply_chat_template` of transformers has it on TODAY.

    Raises:
        TemplateFault: the template cannot be parsed, or fails.
    """
    texts: list[str] = []
    with _limited([]):
        template = _compiled(source)
    with _limited(texts, is_of_one=True):
        for messages in conversations:
            text = template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **names,
            )
            if len(text) > MAX_CHARACTERS:
                raise TemplateError(f"it writes {len(text)} characters")
            texts.append(text)
    return texts


def template_names(source: str) -> set[str]:
    """The names that the template expects to be given.

    Raises:
        TemplateFault: it cannot be parsed.
    """
    with _limited([]):
        environment = _environment()
        given = set(environment.globals)
        return set(find_undeclared_variables(environment.parse(source))) - given


@contextmanager
def _limited(texts: Sequence[str], *, is_of_one: bool = False) -> Iterator[None]:
    """Bound the CPU time, and say in one line whatever a template raises."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    except MemoryError:
        reason = f"it needs more than {MEMORY_LIMIT_BYTES >> 30} GiB of memory"
        raise TemplateFault(reason, len(texts)) from None
    except Exception as error:  # noqa: BLE001  a template may raise whatever its operations do
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise TemplateFault(reason, len(texts), is_of_one) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """What transformers offers to a template; tests/data/test_rendering.py compares the two."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, GenerationBlock]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment


class GenerationBlock(Extension):
    """`{% generation %}` marks what an assistant wrote, for those who ask; the text is the same."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, in the scope of a block of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Any) -> str:
        return str(caller())


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
