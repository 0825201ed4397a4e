"""A metric of an evaluation: how much the answers to one problem agree."""

from collections import Counter

from luffy_pl.records import Group
from luffy_pl.registry import register


@register("metric", "agreement")
def agreement(group: Group) -> float | None:
    """Share of the most frequent answer; a problem without any answer is left out."""
    answers = [response.text.rpartition("</think>")[2] for response in group.responses]
    given = [answer for answer in answers if answer]
    if not given:
        return None
    [(_, count)] = Counter(given).most_common(1)
    return count / len(group.responses)
