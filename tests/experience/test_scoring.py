"""Answers are graded while others are still sampled, and what comes out is as if they were not."""

import dataclasses
import threading
from functools import partial

import pytest

from luffy_pl.data.source import PromptSource
from luffy_pl.errors import VerifierError
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.experience.guidance import Given
from luffy_pl.experience.sampling import Collector, GroupSpec, Stopwatch, answered, sample_groups
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.records import Completion, Prompt, Verdict
from luffy_pl.reward.reward import RewardConfig
from luffy_pl.rollout.engine import Sampling

WAIT_S = 10


class SaysItsSeed:
    """An engine that answers the seed; in between it does what it is told."""

    def __init__(self, after_each=lambda: None, streams=True):
        self.after_each, self.streams = after_each, streams
        self.asked = []

    def generate(self, requests, *, on_finished, **_):
        self.asked = [(*request.token_ids, request.max_tokens) for request in requests]
        found = [[Completion((seed % 97,), "length") for seed in one.seeds] for one in requests]
        for place, own in enumerate(found):
            for sample, completion in enumerate(own):
                if self.streams:
                    on_finished(place, sample, completion)
                self.after_each()
        return found


class Gives:
    """A verifier that notes what it graded; an answer is right if it is even."""

    def __init__(self):
        self.texts = []
        self.has_graded = threading.Event()

    def grade(self, items, on_progress=None):
        self.texts += [text for text, _ in items]
        self.has_graded.set()
        return [Verdict(int(text or 1) % 2 == 0, "ok", "x", text, gold) for text, gold in items]


def prompts(count):
    return [Prompt(str(n), "", (n,), "gold") for n in range(count)]


def sample(engine, specs, verifier=None, stopwatch=None, group_size=3):
    collector = Collector(
        engine=engine,
        verifier=verifier or Gives(),
        decode=lambda ids: "".join(map(str, ids)),
        seed=5,
        rollout=RolloutConfig(group_size=group_size, max_response_tokens=50),
    )
    return sample_groups(specs, 2, collector, stopwatch or Stopwatch())


def test_an_answer_is_graded_before_the_engine_is_done():
    verifier = Gives()

    def wait():
        assert verifier.has_graded.wait(WAIT_S)

    [group] = sample(SaysItsSeed(after_each=wait), [GroupSpec(prompts(1)[0], 0)], verifier)
    assert len(verifier.texts) == 3
    assert group.rewards == tuple(float(int(r.text) % 2 == 0) for r in group.responses)


@pytest.mark.parametrize("expected", [[None] * 4, [5, 40, 20, 40], [60, 1, 2, 3]])
def test_the_order_of_requests_changes_no_answer(expected):
    specs = [
        GroupSpec(prompt, place, expected_tokens=tokens)
        for place, (prompt, tokens) in enumerate(zip(prompts(4), expected, strict=True))
    ]
    plain = [dataclasses.replace(spec, expected_tokens=None) for spec in specs]
    engine = SaysItsSeed()
    assert sample(engine, specs) == sample(SaysItsSeed(streams=False), plain)
    asked = [prompt for prompt, _ in engine.asked]
    assert asked == sorted(range(4), key=lambda n: -min(50, expected[n] or 50))


def test_a_row_that_is_begun_needs_less_than_the_whole():
    begun = Given("prefix", (8, 8), is_complete=False)
    whole = Given("expert", (4, 4), is_complete=True, text="12")
    specs = [
        GroupSpec(prompts(1)[0], 0, (begun, whole), expected_tokens=30),
        GroupSpec(prompts(2)[1], 1, (), expected_tokens=29),
    ]
    engine = SaysItsSeed()
    groups = sample(engine, specs)
    # 30 expected tokens, 29, then 30 - 2 behind the two that are given.
    assert engine.asked == [(0, 50), (1, 50), (0, 8, 8, 48)]
    rollout, prefix, expert = groups[0].responses
    assert [row.source for row in (rollout, prefix, expert)] == ["rollout", "prefix", "expert"]
    assert (expert.text, groups[0].rewards[2]) == ("12", 1.0)
    assert prefix.text == "88" + str(prefix.token_ids[-1])
    assert (prefix.num_given, expert.num_given) == (2, 2)
    assert [row.source for row in groups[1].responses] == ["rollout"] * 3


def test_what_an_engine_returns_counts_if_it_handed_in_something_else():
    """As one that broke in the midst of sampling and was replaced."""
    engine = SaysItsSeed()
    plain = engine.generate

    def otherwise(*args, **options):
        return [
            [dataclasses.replace(one, token_ids=(4, 4)) for one in own]
            for own in plain(*args, **options)
        ]

    engine.generate = otherwise
    [group] = sample(engine, [GroupSpec(prompts(1)[0], 0)])
    assert [row.text for row in group.responses] == ["44"] * 3
    assert group.rewards == (1.0, 1.0, 1.0)


def test_an_error_of_the_verifier_ends_the_phase():
    verifier = Gives()
    verifier.grade = partial(_fail)
    with pytest.raises(VerifierError):
        sample(SaysItsSeed(), [GroupSpec(prompts(1)[0], 0)], verifier)


def _fail(items, on_progress=None):
    raise VerifierError("data.reward", "broken", fix="mend it")


def test_an_error_of_the_engine_leaves_no_thread_behind():
    def fail():
        raise RuntimeError("engine")

    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="engine"):
        sample(SaysItsSeed(after_each=fail), [GroupSpec(prompts(1)[0], 0)])
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_a_benchmark_pays_correctness_unless_it_measures_the_reward():
    collector = Collector(
        engine=SaysItsSeed(),
        verifier=Gives(),
        decode=lambda ids: "".join(map(str, ids)),
        reward_of=lambda prompt, responses: (7.0,) * len(responses),
    )
    groups = answered(
        prompts(2),
        [[1, 2], [4]],
        max_tokens=9,
        sampling=Sampling(),
        collector=collector,
        on_progress=lambda done, total: None,
    )
    assert [group.rewards for group in groups] == [(7.0, 7.0), (7.0,)]
    run = RewardConfig(terms={"correct": 3.0})
    paid = {
        metrics: Benchmark("b", PromptSource("x"), metrics=metrics).reward_of(run, 9)
        for metrics in ((), ("reward",))
    }
    [group, _] = groups
    assert paid[()](group.prompt, group.responses) == (0.0, 1.0)
    assert paid["reward",](group.prompt, group.responses) == (0.0, 3.0)


def test_waiting_for_grades_is_what_scoring_costs():
    stopwatch = Stopwatch()
    sample(SaysItsSeed(), [GroupSpec(prompts(1)[0], 0)], stopwatch=stopwatch)
    assert set(stopwatch.seconds) == {"generate", "score"}
    assert [request.num_sampled for request in stopwatch.sampled] == [(1, 1, 1)]
