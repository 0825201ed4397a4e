"""A model behind `vllm serve` that scores tokens which the policy sampled.

Its completions route gives, of a prompt of token ids, the log-probability of each token of the
prompt (`prompt_logprobs`, a field of vLLM's own). They are those of temperature 1, whatever a
request says, and there are none of tokens that are not in the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from luffy_pl.errors import EngineError, ModelError
from luffy_pl.records import Progress
from luffy_pl.registry import nearest

TextOf = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class ServedModel:
    """Where a model is served; see `FrozenConfig`."""

    url: str
    model: str | None = None
    timeout_s: float = 600.0
    concurrency: int = 64


class ScoringServer:
    """One served model, by the name that `model.frozen` gives it.

    Attributes:
        window: tokens that a row may have.

    Raises:
        EngineError: it does not answer, or is no `vllm serve`.
    """

    def __init__(self, name: str, config: ServedModel) -> None:
        from luffy_pl.rollout.server_pool import Duty, ServerPool

        self.where = f"model.frozen.{name}"
        self._url = config.url.rstrip("/").removesuffix("/v1")
        duty = Duty(
            route="v1/completions",
            in_flight=config.concurrency,
            where=f"{self.where}.url",
            if_silent="look at the server, start it with vllm serve, or raise "
            f"{self.where}.timeout_s",
            if_refused="start it with vllm serve, with its tokenizer and a --max-model-len that "
            "holds prompt and answer",
        )
        self._pool = ServerPool([self._url], timeout_s=config.timeout_s, duty=duty)
        self.model, self.window = self._card(config.model)

    def __str__(self) -> str:
        return f"{self.where} is {self.model} at {self._url}"

    def check_tokenizer(
        self, vocabulary: Sequence[int], decode: TextOf, probe: tuple[str, Sequence[int]]
    ) -> None:
        """Refuse a model whose token ids mean something else than the policy's.

        All ids are compared by their text, in one request, and the rules of cutting by one text.

        Args:
            vocabulary: the ids of the policy's tokenizer, in order.
            decode: the text of ids, special tokens included.
            probe: a text, and its ids without further special tokens.

        Raises:
            ModelError: names a token.
        """
        if self._text(vocabulary) != decode(vocabulary):
            token = self._first_differing(vocabulary, decode)
            found, own = self._text([token]), decode([token])
            self._refuse(f"token {token} is {found!r} there and {own!r} here")
        text, ids = probe
        [answer] = self._ask("tokenize", {"prompt": text, "add_special_tokens": False})
        if answer["tokens"] != list(ids):
            self._refuse(f"{text[:60]!r} has {len(answer['tokens'])} tokens there, or other ones")

    def logprobs(
        self, rows: Sequence[Sequence[int]], *, on_progress: Progress
    ) -> list[tuple[float, ...]]:
        """The log-probability, in nats, of each token of each row but its first.

        Args:
            on_progress: called with the number of rows that are done, and of all.

        Raises:
            EngineError: the server is gone, or refuses a row.
        """
        from luffy_pl.rollout.server_pool import Asked

        found: dict[int, tuple[float, ...]] = {}

        def take(place: tuple[int, int], choice: dict[str, Any]) -> None:
            row = place[0]
            found[row] = self._read(choice, rows[row])
            on_progress(len(found), len(rows))

        asked = [[Asked((number, 0), self._body(ids))] for number, ids in enumerate(rows)]
        self._pool.answers(asked, version=None, on_answer=take)
        return [found[number] for number in range(len(rows))]

    def _body(self, ids: Sequence[int]) -> dict[str, Any]:
        """One more token has to be sampled, which nobody reads."""
        return {"model": self.model, "prompt": list(ids), "max_tokens": 1, "prompt_logprobs": 0}

    def _read(self, choice: dict[str, Any], ids: Sequence[int]) -> tuple[float, ...]:
        scores = choice.get("prompt_logprobs")
        if scores is None or len(scores) != len(ids):
            raise self._is_no_vllm("gives no prompt_logprobs")
        return tuple(
            score[str(token)]["logprob"] for score, token in zip(scores[1:], ids[1:], strict=True)
        )

    def _card(self, wanted: str | None) -> tuple[str, int]:
        """The name of the model, and its window less the token that has to be sampled."""
        [answer] = self._pool.everywhere("v1/models", method="GET")
        cards = {card["id"]: card for card in (answer or {}).get("data", ())}
        found = [*cards] if wanted is None else [name for name in cards if name == wanted]
        if len(found) != 1:
            raise EngineError(
                f"{self.where}.model",
                f"is none of those at {self._url}, or one of several",
                value=wanted,
                fix=nearest(wanted or "", sorted(cards)),
            )
        longest = cards[found[0]].get("max_model_len")
        if longest is None:
            raise self._is_no_vllm("does not say its max_model_len")
        return found[0], longest - 1

    def _ask(self, route: str, body: dict[str, Any]) -> list[Any]:
        return self._pool.everywhere(route, [{"model": self.model, **body}])

    def _text(self, ids: Sequence[int]) -> str:
        [answer] = self._ask("detokenize", {"tokens": list(ids)})
        return str(answer["prompt"])

    def _first_differing(self, vocabulary: Sequence[int], decode: TextOf) -> int:
        """The first id whose text differs, by halving."""
        same, differing = 0, len(vocabulary)
        while differing - same > 1:
            middle = (same + differing) // 2
            begun = vocabulary[:middle]
            same, differing = (
                (middle, differing) if self._text(begun) == decode(begun) else (same, middle)
            )
        return vocabulary[differing - 1]

    def _refuse(self, what: str) -> None:
        raise ModelError(
            f"{self.where}.url",
            f"the tokenizer of {self.model} is not the policy's: {what}",
            value=self._url,
            fix="serve a teacher with the policy's tokenizer",
        )

    def _is_no_vllm(self, what: str) -> EngineError:
        return EngineError(
            f"{self.where}.url",
            f"the server {what}",
            value=self._url,
            fix="start it with vllm serve",
        )
