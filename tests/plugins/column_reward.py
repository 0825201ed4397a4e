"""A reward that reads a column of the row: `budget`, the tokens that an answer may take."""

from luffy_pl.records import Prompt, Response
from luffy_pl.registry import register


@register("reward", "within_budget")
def within_budget(prompt: Prompt, response: Response) -> float:
    """1 for a right answer within the budget, else 0."""
    is_short = len(response.token_ids) <= prompt.columns["budget"]
    return float(is_short and response.verdict.correct is True)
