"""Messages of a row: what is asked, and the turn of the assistant that answers it."""

from __future__ import annotations

from luffy_pl.data.chat import Message
from luffy_pl.data.values import as_text, check_encodable, refuse_row

SHARED_ROLES = {"human": "user", "gpt": "assistant"}
"""Who speaks in ShareGPT's messages of `from` and `value`."""


def as_messages(value: object, where: str) -> tuple[tuple[Message, ...], str | None]:
    """The messages that end with a question, and the assistant's message that follows them, if any.

    Args:
        value: a text; messages of `role` and `content`, as OpenAI has them; or of `from` and
            `value`, as ShareGPT has them.
    """
    if not isinstance(value, list):
        return ({"role": "user", "content": as_text(value, field="prompt", where=where)},), None
    messages = [_as_message(message, where) for message in value]
    roles = [message["role"] for message in messages]
    trace = messages.pop()["content"] if roles[-1:] == ["assistant"] else None
    if not messages or messages[-1]["role"] != "user":
        refuse_row(
            where, "prompt does not end with a user message, or with the answer to one", roles
        )
    return tuple(messages), trace


def ends_with_answer(value: object) -> bool:
    """Whether these are messages whose last is the assistant's."""
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, dict) and (last.get("role"), last.get("from")) in (
        ("assistant", None),
        (None, "gpt"),
    )


def _as_message(value: object, where: str) -> Message:
    if isinstance(value, dict) and {"from", "value"} <= set(value):
        role = SHARED_ROLES.get(value["from"], value["from"])
        value = {"role": role, "content": value["value"]}
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        refuse_row(where, "prompt holds something that is no message with role and content", value)
    role, content = value["role"], value.get("content")
    check_encodable(role, "the role of a message", where)
    if value.get("reasoning_content") or value.get("tool_calls"):
        beside = "reasoning_content" if value.get("reasoning_content") else "tool_calls"
        what = f"prompt ({role} message) has {beside} beside its content"
        refuse_row(where, f"{what}, which has to hold all that is said", None)
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    return {
        "role": role,
        "content": as_text(content, field=f"prompt ({role} message)", where=where),
    }


def _part(part: object, where: str) -> str:
    """The text of a part of OpenAI's content."""
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        refuse_row(where, "prompt holds a part that is no text", part)
    text: str = part["text"]
    return text
