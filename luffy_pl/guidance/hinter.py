"""Hints in prompts: which group gets one, how much it tells, and the prompt that holds it.

Every draw is keyed by run, phase, place and prompt, so all ranks agree and a resumed run draws the
same.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from luffy_pl.data.expert_traces import choose_traces
from luffy_pl.data.seeds import keyed_seed
from luffy_pl.errors import ConfigError, DataError, ModelError
from luffy_pl.guidance.hints import HintRequest
from luffy_pl.guidance.settings import GuidanceConfig, filled
from luffy_pl.records import ExpertTrace, Group, Hint, Prompt, Response
from luffy_pl.registry import described, find

Encode = Callable[[Sequence[str]], list[tuple[int, ...] | None]]
OwnShare = Callable[[str], float]
COUNTS = ("wanted", "given", "nothing_to_tell", "not_in_vocabulary", "too_long")
"""Groups that were to get a hint, that got one, and why the others got none."""
SAMPLED = ("rollout", "hinted", "prefix")
"""Sources of rows that the policy has sampled in their phase, or at least their end."""
VERDICTS = {"no_answer": "It gives no final answer.", "truncated": "It has no end."}
"""By the status of a wrong answer; any other is wrong."""


@dataclass(frozen=True)
class Hinter:
    """Makes hints as `data.rollout.guidance` says.

    encode: texts with their special tokens to ids; None for one that the tokenizer cannot write.
    special: the tokenizer's special tokens, which a hint may not bring into a prompt.
    template, template_name: the user's message with the hint, and the setting that it is.
    max_prompt_tokens: of a hinted prompt; None sets no limit.
    counts: of the phase that is being collected.
    """

    config: GuidanceConfig
    encode: Encode
    special: tuple[str, ...]
    template: str
    max_prompt_tokens: int | None
    seed: int
    template_name: str = "data.rollout.guidance.template"
    counts: Counter[str] = field(default_factory=Counter)

    def hint(
        self,
        prompt: Prompt,
        *,
        place: int | str,
        phase: int,
        traces: Sequence[ExpertTrace],
        own_share: OwnShare | None = None,
        level: int = 0,
        failed: Group | None = None,
    ) -> Hint | None:
        """The hint of a prompt; None where it gets none, which is counted.

        Args:
            place: of the prompt in the phase, over all ranks.
            own_share: gives the share of each prompt, where that is a state of its own.
            level: how many shares have been tried before.
            failed: what the policy answered before, if the hint follows that.
        """
        key = (self.seed, "hint", phase, place, prompt.id)
        if keyed_seed(*key) / 2**31 >= self.config.chance:
            return None
        config = self.config.share
        share = config.tried[level] * (1.0 if own_share is None else own_share(prompt.id))
        share *= 1.0 if config.schedule is None else config.schedule.factor(phase)
        chosen = choose_traces(traces, 1, seed=self.seed, phase=phase, prompt_id=prompt.id)
        wrong = next((row for row in failed.responses if is_wrong(row)), None) if failed else None
        request = HintRequest(
            prompt, share, chosen[0] if chosen else None, wrong, self.config.column
        )
        self.counts["wanted"] += 1
        text = self.text(request) if share else ""
        if not text:
            self.counts["nothing_to_tell"] += 1
            return None
        hinted = self.hinted(prompt, text, wrong)
        return None if hinted is None else Hint(hinted, text, share, failed is not None)

    def text(self, request: HintRequest) -> str:
        """What the hint says, without special tokens; empty where it says nothing.

        Raises:
            ConfigError: the function of a plugin fails, or returns something else than text.
        """
        return told(
            "guidance",
            self.config.what,
            request,
            where="data.rollout.guidance.what",
            prompt_id=request.prompt.id,
            special=self.special,
        )

    def hinted(self, prompt: Prompt, text: str, wrong: Response | None) -> Prompt | None:
        """The prompt with the hint in its last user message; None where that cannot be asked."""
        verdict = "" if wrong is None else VERDICTS.get(wrong.verdict.status, "It is wrong.")
        head, question, tail = parts(prompt)
        message = filled(
            self.template,
            {"question": question, "hint": text, "verdict": verdict, "answer": prompt.ground_truth},
        )
        whole = f"{head}{message}{tail}"
        [ids] = self.encode([whole])
        if ids is None:
            self.counts["not_in_vocabulary"] += 1
            return None
        if self.max_prompt_tokens is not None and len(ids) > self.max_prompt_tokens:
            self.counts["too_long"] += 1
            return None
        self.counts["given"] += 1
        return dataclasses.replace(prompt, text=whole, token_ids=ids)

    def taken(self) -> dict[str, int]:
        """The counts, which begin again."""
        found = {name: self.counts[name] for name in COUNTS}
        self.counts.clear()
        return found

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse a template that the tokenizer cannot write, and prompts without their question.

        Raises:
            ConfigError, ModelError: before anything is sampled.
        """
        for prompt in prompts:
            parts(prompt)
        bare = dict.fromkeys(("question", "hint", "verdict", "answer"), "")
        if self.encode([filled(self.template, bare)]) == [None]:
            raise ConfigError(
                self.template_name,
                "the tokenizer has no token for a part of it",
                value=self.template,
                fix='write it in the model\'s tokens: data.train.hint_template "{question}{hint}"',
            )


def told(
    kind: str, name: str, request: Any, *, where: str, prompt_id: str, special: Sequence[str]
) -> str:
    """The text that a registered function gives, without special tokens; empty for none.

    Raises:
        ConfigError: the function of a plugin fails, or returns something else than text.
    """
    function = find(kind, name, where=where)
    try:
        found = function(request)
    except DataError:
        raise
    except Exception as error:  # code of somebody else fails as it likes
        raise ConfigError(
            f"{kind} {name}",
            f"fails on prompt {prompt_id!r}",
            value=described(error),
            fix="correct its code",
        ) from error
    if found is not None and not isinstance(found, str):
        raise ConfigError(
            f"{kind} {name}", "returns no text", value=found, fix="return a string, or None"
        )
    return without_tokens(found or "", special).strip()


def without_tokens(text: str, tokens: Sequence[str]) -> str:
    """The text without these; what is left of it forms none of them either."""
    while found := next((token for token in tokens if token and token in text), None):
        text = text.replace(found, "")
    return text


def parts(prompt: Prompt) -> tuple[str, str, str]:
    """The rendered prompt before its last question, the question, and the rest.

    Raises:
        ModelError: the chat template does not show the question as it is.
    """
    for question in (prompt.question, prompt.question.strip()):
        head, found, tail = prompt.text.rpartition(question)
        if found:
            return head, question, tail
    raise ModelError(
        "chat_template",
        f"does not show the question of prompt {prompt.id!r} as it is, so no hint can follow it",
        value=prompt.text[-60:],
        fix="use a template that writes the user's message unchanged, or guidance: null",
    )


def is_wrong(row: Response) -> bool:
    """Whether the policy sampled the row, or the end of it, and it was graded wrong."""
    return row.source in SAMPLED and row.verdict.correct is False


def all_failed(group: Group) -> bool:
    """Whether every graded row that the policy sampled is wrong, and there is one."""
    verdicts = {row.verdict.correct for row in group.responses if row.source in SAMPLED} - {None}
    return verdicts == {False}
