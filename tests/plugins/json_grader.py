"""A grader for a task without gold answers: write a JSON object that has the right keys.

Nothing of the answer is run. The row says in its column `keys` what is asked for.
"""

import json

from luffy_pl.records import Prompt
from luffy_pl.registry import register

MAX_CHARACTERS = 10_000


@register("grader", "json_keys")
def json_keys(prompt: Prompt, text: str, *, think_end: str | None) -> bool:
    """Whether the text behind the thinking is an object with exactly these keys."""
    answer = text.rpartition(think_end)[2] if think_end else text
    if len(answer) > MAX_CHARACTERS:
        return False
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) == set(prompt.columns["keys"])
