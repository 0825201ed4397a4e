import math
import sys
import textwrap

import pytest

from luffy_pl.errors import ConfigError, VerifierError
from luffy_pl.records import Prompt, Response, Verdict
from luffy_pl.reward.reward import RewardConfig, build_reward_function
from luffy_pl.reward.terms import correctness

PROMPT = Prompt("p1", "", (1,), "5")


def response(text="a</think>\\boxed{5}", *, correct=True, tokens=10, reward=None):
    verdict = Verdict(correct, "ok", "", "5", "5", reward=reward)
    return Response("rollout", text, (1,) * tokens, "stop", verdict)


def reward(config, row):
    [paid] = build_reward_function(config, max_response_tokens=100)(PROMPT, [row])
    return paid


@pytest.mark.parametrize(("correct", "paid"), [(True, 1.0), (False, 0.0), (None, None)])
def test_without_terms_of_its_own_a_run_pays_correct_answers(correct, paid):
    assert reward(RewardConfig(), response(correct=correct)) == paid
    assert correctness(PROMPT, [response(correct=correct)]) == (paid,)


def test_a_grader_may_pay_values_of_its_own_but_correctness_stays():
    row = response(correct=False, reward=-0.5)
    assert reward(RewardConfig(), row) == -0.5
    assert correctness(PROMPT, [row]) == (0.0,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("thought</think>So \\boxed{5}.", 1.0),
        ("thought</think>5", 0.0),
        ("thought</think>\\boxed{5", 0.0),
        ("\\boxed{5}</think>5", 0.0),
        ("\\boxed{5}", 0.0),
        ("one</think>two</think>\\boxed{5}", 0.0),
    ],
)
def test_format(text, value):
    assert reward(RewardConfig(terms={"format": 1.0}), response(text, correct=False)) == value


@pytest.mark.parametrize(
    ("tokens", "value"), [(1, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (130, -1.0)]
)
def test_overlong_over_the_last_20_of_100_tokens(tokens, value):
    config = RewardConfig(terms={"overlong": 1.0}, overlong_buffer_share=0.2)
    assert reward(config, response(tokens=tokens)) == pytest.approx(value)


def test_terms_are_weighted_and_summed():
    config = RewardConfig(
        terms={"correct": 2.0, "format": 0.5, "overlong": 4.0}, overlong_buffer_share=0.2
    )
    assert reward(config, response(tokens=90)) == 2.0 + 0.5 - 2.0
    assert reward(config, response(correct=None)) is None


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package that registers reward terms, as pip would leave it."""

    def install(source, group="luffy_pl.reward", **terms):
        (tmp_path / "my_rewards.py").write_text(textwrap.dedent(source))
        info = tmp_path / "my_rewards-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rewards\nVersion: 1.0\n")
        lines = [f"{name} = my_rewards:{target}\n" for name, target in terms.items()]
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "my_rewards", raising=False)

    return install


def test_a_registered_term(package):
    package(
        """
        def brevity(prompt, response):
            return 1.0 / len(response.token_ids) + len(prompt.id)
        """,
        brevity="brevity",
    )
    config = RewardConfig(terms={"correct": 1.0, "brevity": 0.5})
    assert reward(config, response(tokens=4)) == 1.0 + 0.5 * (0.25 + 2)


def test_the_old_group_of_entry_points_works_and_says_the_new_one(package, caplog):
    package("def term(p, r): return 0.5", group="luffy_pl.rewards", custom="term")
    with caplog.at_level("WARNING"):
        assert reward(RewardConfig(terms={"custom": 1.0}), response()) == 0.5
    [line] = caplog.messages
    assert "luffy_pl.rewards" in line
    assert line.endswith("is now called luffy_pl.reward")


def test_a_term_that_sees_the_group_gives_a_value_for_each_response(package):
    package(
        "def term(group): return [None if p is None else 2.0 * p for p in group.rewards]",
        custom="term",
    )
    config = RewardConfig(terms={"correct": 1.0, "custom": 1.0})
    rows = [response(), response(correct=False), response(correct=None)]
    found = build_reward_function(config, max_response_tokens=9)(PROMPT, rows)
    assert found == (3.0, 0.0, None)


def test_a_term_that_sees_the_group_leaves_no_response_out(package):
    package("def term(group): return [1.0]", custom="term")
    function = build_reward_function(RewardConfig(terms={"custom": 1.0}), max_response_tokens=9)
    with pytest.raises(VerifierError, match="returns 1 values on 2 responses to prompt"):
        function(PROMPT, [response(), response()])


@pytest.mark.case(37)
@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "def term(p, r): raise KeyError('no key')",
            "fails on .*'p1'.*KeyError",
        ),
        ("def term(p, r): return float('nan')", "is not finite"),
        ("def term(p, r): return None", "fails.*TypeError"),
    ],
)
def test_a_term_that_fails_is_one_line_with_its_name(package, source, line):
    package(source, custom="term")
    function = build_reward_function(RewardConfig(terms={"custom": 1.0}), max_response_tokens=9)
    with pytest.raises(VerifierError, match=rf"^data\.reward\.terms\.custom: {line}") as raised:
        function(PROMPT, [response()])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "import there_is_no_such_module",
            "my_rewards:term cannot be imported.*there_is_no_such_module",
        ),
        ("term = 5", "is no function, got 5"),
        ("def term(): return 1.0", r"takes other parameters than its kind, got '\(\)'"),
        ("def term(p, r, *, no_setting): return 1.0", "cannot have, got 'no_setting'"),
        ("", "my_rewards:term cannot be imported.*AttributeError"),
    ],
)
def test_a_term_that_cannot_be_had_is_one_line_with_its_name(package, source, line):
    package(source, custom="term")
    config = RewardConfig(terms={"custom": 1.0})
    with pytest.raises(ConfigError, match=rf"^data\.reward\.terms\.custom: .*{line}"):
        build_reward_function(config, max_response_tokens=9)


def test_an_unknown_term_lists_the_known_ones(package):
    package("def term(p, r): return 0.0", custom="term")
    with pytest.raises(ConfigError, match=r"is no reward, got 'brevty'. .*correct, custom, format"):
        RewardConfig(terms={"brevty": 1.0})
    with pytest.raises(ConfigError, match=r"is no reward, got 'custon'. Fix: did you mean custom"):
        RewardConfig(terms={"custon": 1.0})


def test_a_package_cannot_take_the_name_of_a_built_in(package):
    package("def term(p, r): return 0.0", correct="term", custom="term")
    with pytest.raises(ConfigError, match="'correct' is registered more than once"):
        RewardConfig(terms={"correct": 1.0, "custom": 1.0})


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"terms": {}}, r"terms: must name a term"),
        ({"terms": {"correct": 0.0, "format": 0.0}}, r"terms: pays every answer 0"),
        ({"terms": {"correct": math.inf}}, r"terms\.correct: must be finite"),
        ({"terms": {"os.system": 1.0}}, r"terms: is no reward, got 'os\.system'"),
        ({"terms": {"overlong": 1.0}}, r"overlong_buffer_share: must be set"),
        ({"overlong_buffer_share": 0.5}, r"overlong_buffer_share: does nothing"),
        (
            {"terms": {"overlong": 1.0}, "overlong_buffer_share": 1.5},
            r"overlong_buffer_share: must be above 0",
        ),
        ({"terms": {"format": 1.0}, "think_end": None}, r"terms\.format: needs .*think_end"),
    ],
)
def test_contradictions_name_themselves(settings, where):
    with pytest.raises(ConfigError, match=rf"^data\.reward\.{where}"):
        RewardConfig(**settings)
