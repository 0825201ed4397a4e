"""How much of a trace is shown: shares within their bounds, and drawn again alike."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.errors import ConfigError
from luffy_pl.experience.collect import given_to
from luffy_pl.experience.guidance import (
    PrefixConfig,
    binomial_quantile,
    given_rows,
    shown,
    shown_ratio,
)
from luffy_pl.experience.sampling import Collector
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.settings import PerPrompt
from luffy_pl.records import ExpertTrace, Prompt

STRATEGIES = ["full", "random", "fixed", "linear", "linear_max", "reverse_linear", "cosine"]
# Those that min_ratio bounds; the others fall to 0, or are uniform from 0.
BOUNDED_BELOW = {"full", "random", "fixed", "cosine"}
SHARES = st.floats(0, 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
def test_every_share_is_within_its_bounds(strategy, data):
    low, high = sorted((data.draw(SHARES), data.draw(SHARES)))
    config = PrefixConfig(strategy, low, high, phases=data.draw(st.integers(1, 50)))
    num_rows = data.draw(st.integers(1, 8))
    ratio = shown_ratio(
        config,
        phase=data.draw(st.integers(0, 100)),
        row=data.draw(st.integers(0, num_rows - 1)),
        num_rows=num_rows,
        draw=data.draw(st.floats(0, 1, exclude_max=True)),
    )
    if strategy == "full":
        assert ratio == 1
    else:
        floor = low if strategy in BOUNDED_BELOW else 0.0
        assert floor - 1e-12 <= ratio <= high + 1e-12


def ratio(strategy, *, phase=0, row=0, num_rows=1, draw=0.5):
    config = PrefixConfig(strategy, min_ratio=0.2, max_ratio=0.8, phases=100)
    return shown_ratio(config, phase=phase, row=row, num_rows=num_rows, draw=draw)


@pytest.mark.parametrize(
    ("found", "by_hand"),
    [
        (ratio("random"), 0.2 + 0.5 * 0.6),
        (ratio("fixed"), 0.8),
        ([ratio("fixed", row=row, num_rows=3) for row in range(3)], [0.2, 0.5, 0.8]),
        ([ratio("linear", phase=phase) for phase in (0, 25, 100, 200)], [0.8, 0.6, 0.0, 0.0]),
        # Below a bound of 0.8, of 0.8 * 9/10 from phase 10 on, and of 0.8 / 10 at the end.
        (
            [ratio("linear_max", phase=phase) for phase in (0, 9, 10, 99, 500)],
            [0.4, 0.4, 0.36, 0.04, 0.04],
        ),
        (
            [ratio("reverse_linear", phase=phase) for phase in (0, 9, 10, 99, 500)],
            [0.04, 0.04, 0.08, 0.4, 0.4],
        ),
        # Uniform up to 0.8 from 0.8, then from 0.2 + 0.6 / 2, then from 0.2.
        ([ratio("cosine", phase=phase) for phase in (0, 50, 100, 300)], [0.8, 0.65, 0.5, 0.5]),
    ],
)
def test_shares_by_hand(found, by_hand):
    assert found == pytest.approx(by_hand)


TRACES = (
    ExpertTrace("a", tuple(range(100)), tuple(-0.01 * place for place in range(100))),
    ExpertTrace("b", tuple(range(1000, 1100))),
)


def rows(**changes):
    settings = {"num_rows": 4, "phase": 3, "place": 5, "seed": 0, "prompt_id": "p"} | changes
    config = PrefixConfig("random", shared=settings.pop("shared", False))
    return given_rows(settings.pop("traces", TRACES), config, **settings)


def lengths(**changes):
    return [len(row.token_ids) for row in rows(**changes)]


def test_draws_are_keyed_by_row_phase_place_prompt_and_seed():
    assert rows() == rows()
    assert len(set(lengths())) > 1
    for other in ({"phase": 4}, {"place": 6}, {"prompt_id": "q"}, {"seed": 1}):
        assert lengths(**other) != lengths()
    # A refilled prompt has a place of its own kind.
    assert lengths(place="refill 0, 5") != lengths()


def test_rows_of_a_prompt_may_share_their_draw():
    assert len(set(lengths(shared=True))) == 1


def test_traces_are_taken_in_turn():
    starts = [row.token_ids[0] for row in rows() if row.token_ids]
    assert starts == [0, 1000, 0, 1000]
    assert rows(traces=()) == ()


@pytest.mark.parametrize(
    ("share", "num_tokens", "source"),
    [(0.0, 0, "rollout"), (0.009, 0, "rollout"), (0.5, 50, "prefix"), (0.999, 99, "prefix"),
     (1.0, 100, "expert")],
)  # fmt: skip
def test_what_a_row_shows(share, num_tokens, source):
    trace = TRACES[0]
    row = shown(trace, share)
    assert (row.source, row.is_complete) == (source, source == "expert")
    assert row.token_ids == trace.token_ids[:num_tokens]
    assert row.logprobs == trace.logprobs[:num_tokens]
    assert row.text == ("a" if row.is_complete else "")


def test_a_trace_above_the_limit_leaves_the_policy_a_token():
    assert len(shown(TRACES[0], 0.9, max_tokens=40).token_ids) == 39
    assert len(shown(TRACES[0], 0.3, max_tokens=40).token_ids) == 30
    assert len(shown(TRACES[0], 1.0, max_tokens=40).token_ids) == 100  # never cut
    assert max(lengths(max_tokens=20)) == 19


def test_the_part_that_is_shown_leaves_room_in_the_engines_window():
    prompt = Prompt("p", "", (1,) * 15, "1")
    phase = SimpleNamespace(number=0, replayed={}, shares={})

    def shown_of(ratio, **window):
        rollout = RolloutConfig(prefix=PrefixConfig("fixed", 0, ratio), max_response_tokens=9)
        traces = {"p": (ExpertTrace("t", tuple(range(10))),)}
        collector = Collector(None, None, None, rollout=rollout, traces=traces, **window)
        (row,) = given_to(prompt, 0, phase, collector)
        return len(row.token_ids)

    assert shown_of(0.9, max_model_len=20) == 4  # and one token is sampled
    assert shown_of(0.9) == 8
    assert shown_of(1.0, max_model_len=20) == 10  # nothing is sampled behind it


def test_pieces_come_up_as_often_as_their_chance_says():
    # Two tries at 0.3: none 0.49, one 0.42, both 0.09.
    draws = [0.0, 0.48, 0.5, 0.9, 0.92]
    assert [binomial_quantile(draw, 2, 0.3) for draw in draws] == [0, 0, 1, 1, 2]
    assert [binomial_quantile(draw, 3, 1.0) for draw in (0.0, 0.99)] == [3, 3]
    assert [binomial_quantile(draw, 3, 0.0) for draw in (0.0, 0.99)] == [0, 0]


def test_uft_shows_fewer_pieces_along_a_cosine_and_then_none():
    config = PrefixConfig("binomial", 0.05, 0.95, phases=300, pieces=5)
    grid = [(number + 0.5) / 1000 for number in range(1000)]

    def shares(phase):
        return [shown_ratio(config, phase=phase, row=0, num_rows=1, draw=draw) for draw in grid]

    assert {round(5 * share, 9) for share in shares(150)} == {0, 1, 2, 3, 4, 5}
    # The mean of a binomial share is its chance: 0.95 at the start, half way 0.5, then 0.05.
    for phase, chance in ((0, 0.95), (150, 0.5), (299, 0.05)):
        assert sum(shares(phase)) / 1000 == pytest.approx(chance, abs=0.003)
    assert set(shares(300)) == {0.0}


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"levels": (0.5,)}, "levels"),
        ({"levels": (), "when": "all_failed"}, "levels"),
        ({"levels": (0.0,), "when": "all_failed"}, "levels"),
        ({"levels": (0.5,), "when": "all_failed", "strategy": "random"}, "levels"),
        ({"per_prompt": PerPrompt(), "strategy": "random"}, "per_prompt"),
        ({"pieces": 0, "strategy": "binomial"}, "pieces"),
    ],
)
def test_a_share_is_said_once(settings, where):
    with pytest.raises(ConfigError, match=rf"data\.rollout\.prefix\.{where}"):
        PrefixConfig(**settings)
