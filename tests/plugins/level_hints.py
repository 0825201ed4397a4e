"""Hints that a row brings, each telling more than the one before: a column with a list of texts."""

from luffy_pl.guidance.hints import HintRequest
from luffy_pl.registry import register


@register("guidance", "level")
def level(request: HintRequest) -> str | None:
    """The hint as far up the list as `share` says; None where the row has none."""
    hints = request.prompt.columns.get(request.column or "hints") or []
    return hints[round(request.share * len(hints)) - 1] if hints else None
