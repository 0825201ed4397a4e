"""The worlds that come with the package, and what building one needs to know of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.miniature import corpus, gate, middle, middle_gate, tokenizer, world
from luffy_pl.miniature.corpus import Text

HERE = Path(__file__).parent


class Figures(Protocol):
    """What a base can do, as a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def failures(self) -> list[str]:
        """The bounds this base does not keep, in words; none if it passes."""


@dataclass(frozen=True)
class World:
    """A world of problems with an expert, and a base that is to learn from it.

    folder: where the shipped files lie.
    vocabulary: tokens in the order of their ids.
    draw_texts: what the base is trained on, by number of texts and generator.
    decision_target: from the probability of going on to the distribution over the vocabulary at
        the decisions of a text (`Text.decisions`).
    measure_base: figures of a trained base.
    draw_rows: rows of each split, by seed.
    """

    folder: Path
    vocabulary: tuple[str, ...]
    draw_texts: Callable[[int, random.Random], list[Text]]
    decision_target: Callable[[float], Tensor]
    measure_base: Callable[[PreTrainedModel, PreTrainedTokenizerFast], Figures]
    draw_rows: Callable[..., dict[str, list[dict[str, Any]]]]

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of its vocabulary."""
        return tokenizer.build_tokenizer(self.vocabulary)


def _no_target(_: float) -> Tensor:
    # Its texts hold no decisions: going on and giving up are drawn.
    return torch.zeros(len(middle.VOCABULARY))


QUICKSTART = World(
    folder=HERE / "world",
    vocabulary=tokenizer.VOCABULARY,
    draw_texts=corpus.draw_texts,
    decision_target=corpus.decision_target,
    measure_base=gate.measure_base,
    draw_rows=world.draw_rows,
)
MIDDLE = World(
    folder=HERE / "more" / "middle",
    vocabulary=middle.VOCABULARY,
    draw_texts=middle.draw_texts,
    decision_target=_no_target,
    measure_base=middle_gate.measure_base,
    draw_rows=middle.draw_rows,
)
WORLDS = {"quickstart": QUICKSTART, "middle": MIDDLE}
