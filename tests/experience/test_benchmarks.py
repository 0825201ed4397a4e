import pytest

from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError
from luffy_pl.experience.benchmarks import Benchmark, check_benchmarks
from luffy_pl.reward.reward import RewardConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "math/500"}, "is not a file name"),
        ({"name": ""}, "is not a file name"),
        ({"samples_per_problem": 0, "temperature": 0.6}, "samples_per_problem: must be at least 1"),
        ({"samples_per_problem": 4}, "greedy decoding gives the same answer every time"),
        ({"top_p": 0.5}, "top_p: has no effect: greedy decoding"),
        ({"reward": RewardConfig(terms={"format": 1.0})}, "reward.terms: has no effect"),
        ({"source": PromptSource("x.jsonl", max_bad_share=0.5)}, "max_bad_share: has no effect"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ConfigError, match=words):
        Benchmark(**{"name": "math-500", "source": PromptSource("x.jsonl")} | settings)


def test_the_longest_answer_is_the_run_s_unless_it_is_named():
    source = PromptSource("x.jsonl")
    assert Benchmark("a", source).max_tokens(7) == 7
    assert Benchmark("a", source, max_response_tokens=9).max_tokens(7) == 9


def test_two_benchmarks_of_one_name():
    a, b = (Benchmark(name, PromptSource("x.jsonl")) for name in "ab")
    check_benchmarks([a, b])
    with pytest.raises(ConfigError, match="2 entries have the same name, got 'a'"):
        check_benchmarks([a, b, a])
