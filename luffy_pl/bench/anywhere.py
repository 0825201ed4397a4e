"""A grader for `luffy-pl bench phase --anywhere`, given to the run as a plugin."""

from luffy_pl.records import Prompt, Verdict
from luffy_pl.registry import register


@register("grader", "anywhere")
def anywhere(prompt: Prompt, text: str, gold: str) -> Verdict:
    """Right where the gold stands anywhere in the answer, as it is written."""
    is_there = gold in text
    return Verdict(is_there, "ok", "anywhere", gold if is_there else None, gold)
