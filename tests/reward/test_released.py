r"""The released graders against verdicts worked out from their description."""

import pytest

from luffy_pl.reward.released.compare import is_repetitive
from luffy_pl.reward.released.text import RELEASED, graded_part, last_box
from luffy_pl.reward.reward import RewardConfig, build_verifier

SPLIT = "</think>"

# Text, gold, and T or F for luffy_v0, v1, v2, v3, v4 and oat, in this order.
CASES = [
    (rf"a{SPLIT}\boxed{{\frac12}}", "0.5", "TTFTTT"),
    # v0 and oat take units away; math_verify reads the number in front of them.
    (rf"a{SPLIT}\boxed{{5\text{{ cm}}}}", "5", "TTFTTT"),
    # An integer or fraction of the gold asks for its exact form; oat ends in math_verify.
    (rf"a{SPLIT}\boxed{{10/2}}", "5", "FFFTTT"),
    (rf"a{SPLIT}\boxed{{2/4}}", "1/2", "FFFTTT"),
    (rf"a{SPLIT}\boxed{{\sqrt{{12}}}}", r"2\sqrt{3}", "TTFTTT"),
    (rf"a{SPLIT}\boxed{{(2,1)}}", "(1,2)", "FFFFFF"),
    # Only math_verify needs no box.
    (f"a{SPLIT} It is $5$.", "5", "FFFTTF"),
    # Unfinished thinking: v4 and oat read it all the same, v2 reads nothing else.
    (r"\boxed{5}", "5", "FFTFTT"),
    (rf"\boxed{{5}}{SPLIT}\boxed{{6}}", "6", "TTFTFT"),
    (rf"\boxed{{5}}{SPLIT}\boxed{{6}}", "5", "FFTFFF"),
    # What stands behind a second end of thinking is not read, but by v4, to whose math_verify
    # two boxes are a set.
    (rf"a{SPLIT}\boxed{{5}}{SPLIT}\boxed{{6}}", "5", "TTFTFT"),
    # A gold in a box.
    (rf"a{SPLIT}\boxed{{7}}", r"\boxed{7}", "TTFTTT"),
    # One in a box that never closes equals nothing.
    (rf"a{SPLIT}\boxed{{7}}", r"\boxed{7", "FFFFFF"),
]


@pytest.fixture(scope="module")
def verdicts():
    """Of every case, by grader."""
    items = [(text, gold) for text, gold, _ in CASES]
    found = {}
    for grader in RELEASED:
        with build_verifier(RewardConfig(grader=grader, workers=1)) as verifier:
            found[grader] = verifier.grade(items)
            assert verifier.check_golds(["", "7"]) == [True, True]
    return found


@pytest.mark.parametrize(("place", "grader"), list(enumerate(RELEASED)))
def test_verdicts(verdicts, place, grader):
    wanted = "".join(row[2][place] for row in CASES)
    assert "".join("FT"[verdict.correct] for verdict in verdicts[grader]) == wanted
    assert {verdict.tier for verdict in verdicts[grader]} == {grader}


def test_only_luffy_v1_has_values_of_its_own(verdicts):
    assert {v.reward for grader in RELEASED if grader != "luffy_v1" for v in verdicts[grader]} == {
        None
    }
    paid = [verdict.reward for verdict in verdicts["luffy_v1"]]
    # Right 1, wrong -0.5, no box or an unreadable gold -1.
    assert [paid[i] for i in (0, 2, 5, 6, 7, 12)] == [1.0, -0.5, -0.5, -1.0, -1.0, -1.0]


def test_the_record_shows_the_box_and_why(verdicts):
    assert verdicts["luffy_v3"][0].extracted == r"\frac12"
    assert [verdicts["luffy_v3"][i].status for i in (0, 7)] == ["ok", "no_answer"]
    assert verdicts["luffy_v0"][12].status == "gold_bad"


def test_python_in_a_box_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    code = f'__import__("pathlib").Path("{marker}").touch()'
    for grader in ("luffy_v0", "luffy_v3", "oat"):
        with build_verifier(RewardConfig(grader=grader, workers=1)) as verifier:
            assert verifier.grade([(rf"a{SPLIT}\boxed{{{code}}}", "5")])[0].correct is False
    assert not marker.exists()


@pytest.mark.slow
def test_an_answer_that_hangs_is_killed_and_the_next_is_right():
    items = [(rf"a{SPLIT}\boxed{{{answer}}}", r"2\sqrt3") for answer in ("10000000!", r"\sqrt{12}")]
    with build_verifier(RewardConfig(grader="luffy_v0", workers=1, timeout_s=2)) as verifier:
        hung, right = verifier.grade(items)
    assert (hung.correct, hung.status, right.correct) == (False, "timeout", True)


def test_one_verdict_for_a_pair_that_occurs_twice_and_progress_counts_both():
    seen = []
    items = [(rf"a{SPLIT}\boxed{{5}}", "5"), ("", "5")] * 2
    with build_verifier(RewardConfig(grader="luffy_v0", workers=1)) as verifier:
        found = verifier.grade(items, lambda done, total: seen.append((done, total)))
    assert [verdict.correct for verdict in found] == [True, False] * 2
    assert found[0] is found[2]
    assert seen == [(2, 4), (4, 4)]


def test_parts_by_hand():
    text = f"one{SPLIT}two{SPLIT}three"
    assert graded_part("luffy_v3", text) == graded_part("oat", text) == "two"
    assert graded_part("luffy_v2", text) == "\n<think>\none"
    assert graded_part("luffy_v4", text) == text
    assert graded_part("luffy_v0", "one") is None


def test_boxes_by_hand():
    assert last_box(r"\boxed{1} \boxed{\frac{2}{3}}") == r"\frac{2}{3}"
    assert last_box(r"\boxed{1} \boxed {2}") is None
    assert last_box(r"\boxed{1} \boxed{2") is None
    assert last_box("2") is None


def test_repetition():
    assert is_repetitive("12 " * 60)
    assert not is_repetitive("12 " * 40)  # short
    assert not is_repetitive(" ".join(map(str, range(60))))


@pytest.mark.parametrize(
    "setting", [{"units": "ignore"}, {"rounding": 3}, {"forms": ("hash",)}, {"think_end": None}]
)
def test_a_released_grader_takes_no_policy_of_ours(setting):
    from luffy_pl.errors import ConfigError

    with pytest.raises(ConfigError, match=rf"^data\.reward\.{next(iter(setting))}: .*luffy_v3"):
        RewardConfig(grader="luffy_v3", **setting)


def test_a_grader_by_name_on_the_command_line(command_line, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(r'{"prediction": "It is $5$.", "gold": "5", "equal": true}' + "\n")
    done = command_line(
        "verify", "--grader", "luffy_v4", "--pairs", pairs, "--out", tmp_path / "out.jsonl"
    )
    assert "tier: 1 luffy_v4\nagreement with the file: 1 of 1" in done.stdout, done.stderr
