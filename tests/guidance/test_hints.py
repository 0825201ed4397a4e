"""What a hint says, what may be set of it, and the prompt that holds it."""

from collections import Counter

import pytest

from luffy_pl.errors import ConfigError, DataError, ModelError
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.hinter import Hinter, parts
from luffy_pl.guidance.hints import HintRequest, beginning, column
from luffy_pl.guidance.settings import GuidanceConfig, PerPrompt, ShareConfig, filled
from luffy_pl.objective.schedule import Schedule
from luffy_pl.records import ExpertTrace, Prompt
from luffy_pl.registry import find

PROMPT = Prompt(
    "a", "<user>What is 3.5+x?<assistant>", (1,), "7", "", {"idea": "add them"}, "What is 3.5+x?"
)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, ""), (0.2, "We"), (0.5, "We add"), (0.7, "We add 3.5"), (0.8, r"We add 3.5\frac"),
     (1.0, r"We add 3.5\frac12.")],
)  # fmt: skip
def test_a_word_a_number_and_a_command_stay_whole(share, expected):
    # Eight pieces: We, a gap, add, a gap, 3.5, \frac, 12, and the full stop.
    assert beginning(r"We add 3.5\frac12.", share).rstrip() == expected


def test_what_is_filled_in_is_not_read_as_a_template():
    texts = {"question": "a {hint} b", "hint": "{question}", "verdict": "", "answer": ""}
    assert filled("{question}|{hint}|{2}{x y}", texts) == "a {hint} b|{question}|{2}{x y}"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"what": "tracer"}, "what"),
        ({"what": "column"}, "column"),
        ({"column": "idea"}, "column"),
        ({"rows": 2}, "rows"),
        ({"rows": 0, "put_back": "plain"}, "rows"),
        ({"chance": 0.0}, "chance"),
        ({"chance": float("nan")}, "chance"),
        ({"template": "{question}"}, "template"),
        ({"template": "{question}{hint}{gold}"}, "template"),
        ({"when": "always", "share": ShareConfig(levels=(0.25, 0.5))}, "share.levels"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, where):
    with pytest.raises(ConfigError) as refused:
        GuidanceConfig(**settings)
    assert refused.value.where == f"data.rollout.guidance.{where}"


@pytest.mark.parametrize(
    "settings",
    [{"levels": ()}, {"levels": (1.5,)}, {"levels": (0.5,), "per_prompt": PerPrompt()}],
)
def test_a_share_is_of_one_kind_and_within_its_bounds(settings):
    with pytest.raises(ConfigError, match=r"data\.rollout\.guidance\.share\.levels"):
        ShareConfig(**settings)


def test_rows_of_a_group_that_a_hint_cannot_have():
    plain = GuidanceConfig(put_back="plain", rows=4)
    with pytest.raises(ConfigError, match=r"guidance\.rows: is more than the 3 rows"):
        RolloutConfig(group_size=4, expert_traces_per_group=1, guidance=plain)
    with pytest.raises(ConfigError, match=r"guidance\.put_back.*expert_traces_per_group"):
        RolloutConfig(expert_traces_per_group=1, guidance=GuidanceConfig())


def test_a_share_moves_with_success_within_its_bounds():
    share = PerPrompt(start=0.5, step=0.2, most=0.6, up_below=0.1, down_above=0.35)
    assert [share.moved(0.5, accuracy) for accuracy in (0.0, 0.1, 0.35)] == [0.6, 0.5, 0.5]
    assert share.moved(0.1, 1.0) == 0.0
    for wrong in ({"start": 0.9}, {"up_below": 0.5}, {"step": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PerPrompt(**wrong)


def hinter(config=GuidanceConfig(), *, limit=None, **more):  # noqa: B008
    return Hinter(
        config,
        encode=lambda texts: [None if "€" in t else tuple(map(ord, t)) for t in texts],
        special=("<user>",),
        template="{question}\n{hint} {verdict}{answer}",
        max_prompt_tokens=limit,
        seed=3,
        **more,
    )


def hint(made, text="one two", **more):
    traces = (ExpertTrace(text, (1,)),)
    return made.hint(PROMPT, place=0, phase=0, traces=traces, **more)


def test_a_prompt_holds_its_hint_and_no_special_token_of_it():
    found = hint(hinter(GuidanceConfig(share=ShareConfig((1.0,)))), "one<us<user>er> two")
    assert found.prompt.text == "<user>What is 3.5+x?\none two 7<assistant>"
    assert found.prompt.token_ids == tuple(map(ord, found.prompt.text))
    assert (found.text, found.share, found.prompt.id) == ("one two", 1.0, "a")


def test_a_hint_that_cannot_be_asked_is_counted():
    assert hint(hinter(limit=45)) is not None
    for made, text, reason in (
        (hinter(limit=40), "one two", "too_long"),
        (hinter(), "€", "not_in_vocabulary"),
        (hinter(), "", "nothing_to_tell"),
    ):
        whole = ShareConfig((1.0,))
        made = Hinter(**{**vars(made), "config": GuidanceConfig(share=whole)})
        assert hint(made, text) is None
        assert made.taken() == {
            **dict.fromkeys(("given", "nothing_to_tell", "not_in_vocabulary", "too_long"), 0),
            "wanted": 1,
            reason: 1,
        }
        assert made.counts == Counter()


def test_a_schedule_takes_shares_down():
    fading = ShareConfig((0.8,), schedule=Schedule(decay_phases=10, shape="linear"))
    made = hinter(GuidanceConfig(share=fading))
    traces = (ExpertTrace("+-*/=", (1,)),)
    shares = [made.hint(PROMPT, place=0, phase=p, traces=traces) for p in (0, 5, 10)]
    assert [one and (one.share, one.text) for one in shares] == [
        (0.8, "+-*/"),
        (0.4, "+-"),
        None,
    ]


def test_a_column_is_text_or_nothing():
    request = HintRequest(PROMPT, 1.0, column="idea")
    assert column(request) == "add them"
    assert column(HintRequest(PROMPT, 1.0, column="other")) is None
    number = Prompt("b", "", (), "", columns={"idea": 3})
    with pytest.raises(DataError, match=r"guidance\.column=idea: is not text.*'b'"):
        column(HintRequest(number, 1.0, column="idea"))


def test_a_trace_is_told_without_the_mark_that_opens_a_thought():
    told = find("guidance", "trace", where="what")
    assert told(HintRequest(PROMPT, 0.5, ExpertTrace("<think>\nx = 4", (1,)))) == "x "
    assert told(HintRequest(PROMPT, 0.5)) is None


def test_the_gold_is_told_whole():
    assert find("guidance", "answer", where="what")(HintRequest(PROMPT, 0.25)) == "7"


def test_a_template_that_changes_the_question_is_refused():
    with pytest.raises(ModelError, match="does not show the question of prompt 'a'"):
        parts(Prompt("a", "WHAT?", (1,), "7", question="what?"))
    assert parts(Prompt("a", "[what?]", (1,), "7", question=" what?\n")) == ("[", "what?", "]")
