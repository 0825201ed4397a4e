"""What a teacher sees beside the question: the kind `teacher_prompt`, one function a kind.

Such a function gets a `TeacherRequest` and returns the text that the teacher is shown, or None
where it knows none: the row is then not taught. The text goes into the user's message by a
template, and the teacher scores the policy's own tokens behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from luffy_pl import registry
from luffy_pl.bundled import resolve
from luffy_pl.data.chat import Tokenizer, encode_known
from luffy_pl.data.expert_traces import choose_traces
from luffy_pl.data.tokenizer import check_same_tokenizer, longest_context
from luffy_pl.errors import ConfigError
from luffy_pl.guidance.hinter import Encode, parts, told
from luffy_pl.guidance.settings import PLACE, filled
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, TeacherPrompt
from luffy_pl.registry import register

WHERE = "data.rollout.teacher_prompt"
PLACES = ("question", "text")
USUAL = (
    "{question}\n\nThis is a response to the question:\n{text}\n\n"
    "Now answer with a response of your own, including the thinking process."
)
"""The wording of SDFT (arXiv 2601.19897)."""


@dataclass(frozen=True)
class TeacherPromptConfig:
    """What the teacher of a distillation sees and the policy does not."""

    sees: str = "trace"
    """trace: an expert's answer; answer: the gold; peer: another answer of the group, a right one;
    feedback: the verdict on the row itself; others come from packages and plugins."""
    template: str | None = None
    """File with the user's message: {question}, and {text} for what is seen; null takes a usual
    wording. `data.train.hint_template` goes before it, with {hint} for {text}."""

    def __post_init__(self) -> None:
        registry.check("teacher_prompt", self.sees, where=f"{WHERE}.sees")
        if self.template is not None:
            read_template(self.template)


def read_template(file: str) -> str:
    """The text of a template file.

    Raises:
        ConfigError: it cannot be read, or names something else than it is given.
    """
    try:
        text = Path(resolve(file)).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"cannot be read ({type(error).__name__})", file, "give a text file in UTF-8")
    unknown = [name for name in PLACE.findall(text) if name not in PLACES]
    if unknown:
        _refuse(f"{file} names something unknown", f"{{{unknown[0]}}}", "use {question} and {text}")
    if "{question}" not in text:
        _refuse("does not show {question}", file, "write it into it")
    return text


def _refuse(what: str, value: str, fix: str) -> NoReturn:
    raise ConfigError(f"{WHERE}.template", what, value=value, fix=fix)


@dataclass(frozen=True)
class TeacherRequest:
    """What a teacher may be shown of one row.

    group: with the prompt, its gold answer and further columns, and all rows, graded.
    row: number of the row in it.
    trace: an expert's answer; None where there is none.
    """

    group: Group
    row: int
    trace: ExpertTrace | None = None


TeacherPromptFunction = Callable[[TeacherRequest], str | None]


@register("teacher_prompt", "trace")
def trace(request: TeacherRequest) -> str | None:
    """An expert's answer (OPSD, arXiv 2601.18734; SDFT, arXiv 2601.19897)."""
    return None if request.trace is None else request.trace.text


@register("teacher_prompt", "answer")
def answer(request: TeacherRequest) -> str | None:
    """The gold answer (RLSD, arXiv 2604.03128)."""
    return request.group.prompt.ground_truth or None


@register("teacher_prompt", "peer")
def peer(request: TeacherRequest) -> str | None:
    """The next right answer that the policy sampled for the group (SDPO, arXiv 2601.20802)."""
    rows = request.group.responses
    others = [*rows[request.row + 1 :], *rows[: request.row]]
    found = (row.text for row in others if is_sampled(row) and row.verdict.correct is True)
    return next(found, None)


@register("teacher_prompt", "feedback")
def feedback(request: TeacherRequest) -> str | None:
    """The verdict on the row (SDPO's feedback of an environment)."""
    verdict = request.group.responses[request.row].verdict
    if verdict.correct is None:
        return None
    if verdict.extracted is None:
        return "An earlier attempt gave no final answer."
    said = "right" if verdict.correct else "wrong"
    return f"An earlier attempt ended with {verdict.extracted}, which is {said}."


def is_sampled(row: Response) -> bool:
    """Whether the policy sampled the row, or the end of it, in this phase."""
    return row.num_given < len(row.token_ids)


@dataclass(frozen=True)
class TeacherPrompter:
    """Writes the teacher's prompts as `data.rollout.teacher_prompt` says.

    encode: texts with their special tokens to ids; None for one that the tokenizer cannot write.
    special: the tokenizer's special tokens, which no text may bring into a prompt.
    template: the user's message, with {question} and {text}.
    window: tokens of prompt and answer that policy and teachers take; None sets no limit.
    """

    sees: str
    encode: Encode
    special: tuple[str, ...]
    template: str
    window: int | None
    seed: int

    def within(self, window: int) -> TeacherPrompter:
        """The same, for a teacher that takes rows of so many tokens."""
        return dataclasses.replace(self, window=min(window, self.window or window))

    def taught(
        self,
        groups: Sequence[Group],
        traces: Mapping[str, Sequence[ExpertTrace]],
        *,
        phase: int,
    ) -> list[Group]:
        """The groups; each sampled row has the teacher's prompt, or the reason why it has none."""
        return [self._taught(group, traces.get(group.prompt.id, ()), phase) for group in groups]

    def _taught(self, group: Group, traces: Sequence[ExpertTrace], phase: int) -> Group:
        chosen = choose_traces(traces, 1, seed=self.seed, phase=phase, prompt_id=group.prompt.id)
        written: dict[str, TeacherPrompt] = {}
        rows = []
        for number, row in enumerate(group.responses):
            if not is_sampled(row):
                rows.append(row)
                continue
            request = TeacherRequest(group, number, chosen[0] if chosen else None)
            text = told(
                "teacher_prompt",
                self.sees,
                request,
                where=f"{WHERE}.sees",
                prompt_id=group.prompt.id,
                special=self.special,
            )
            if text not in written:
                written[text] = self._written(group.prompt, text)
            found = written[text]
            if self.window is not None and len(found.token_ids) + len(row.token_ids) > self.window:
                found = TeacherPrompt((), "too_long")
            rows.append(dataclasses.replace(row, teacher_prompt=found))
        return dataclasses.replace(group, responses=tuple(rows))

    def _written(self, prompt: Prompt, text: str) -> TeacherPrompt:
        if not text:
            return TeacherPrompt((), "nothing_to_tell")
        head, question, tail = parts(prompt)
        texts = {"question": question, "text": text, "answer": prompt.ground_truth, "verdict": ""}
        message = filled(self.template, texts)
        [ids] = self.encode([f"{head}{message}{tail}"])
        return TeacherPrompt((), "not_in_vocabulary") if ids is None else TeacherPrompt(ids)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse a template that the tokenizer cannot write, and prompts without their question.

        Raises:
            ConfigError, ModelError: before anything is sampled.
        """
        for prompt in prompts:
            parts(prompt)
        if self.encode(
            [filled(self.template, dict.fromkeys((*PLACES, "answer", "verdict"), ""))]
        ) == [None]:
            raise ConfigError(
                f"{WHERE}.template",
                "the tokenizer has no token for a part of it",
                value=self.template,
                fix='write it in the model\'s tokens: data.train.hint_template "{question}{hint}"',
            )


def check_teachers(tokenizer: Tokenizer, paths: Mapping[str, str]) -> None:
    """Refuse teachers that read other tokens than the policy.

    Args:
        paths: folder or hub name of each model of `model.frozen` that has one.
    """
    for name, path in paths.items():
        check_same_tokenizer(tokenizer, resolve(path), where=f"model.frozen.{name}.path")


def build_teacher_prompter(
    config: TeacherPromptConfig | None,
    tokenizer: Tokenizer,
    *,
    hint_template: str | None,
    own_window: int | None,
    teachers: Iterable[str],
    seed: int,
) -> TeacherPrompter | None:
    """What writes the teacher's prompts; None where it sees what the policy sees.

    Args:
        hint_template: `data.train.hint_template`.
        own_window: tokens that the policy takes; None is no limit.
        teachers: folders or hub names of teachers, whose windows a row has to fit too.
    """
    if config is None:
        return None
    template = USUAL if config.template is None else read_template(config.template)
    if hint_template is not None:
        template = hint_template.replace("{hint}", "{text}")
    windows = [own_window, *(longest_context(resolve(path)) for path in teachers)]
    return TeacherPrompter(
        config.sees,
        encode=lambda texts: encode_known(tokenizer, texts),
        special=tuple(tokenizer.all_special_tokens),
        template=template,
        window=min((window for window in windows if window), default=None),
        seed=seed,
    )
