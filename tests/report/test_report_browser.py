"""The report's page in a real browser: hostile answers stay text, ten thousand open at once."""

import html
import re

import pytest
from report.browser import count, find_browser, opened_document, rendered
from report.report_runs import HOSTILE, answer, write_lines, write_run

MAX_READY_MS = 3000


@pytest.fixture
def opened(command_line, tmp_path):
    """The document of a run's report after its script ran, as markup."""
    browser = find_browser()

    def open_page(run, fragment=""):
        if not (run / "report.html").exists():
            assert command_line("report", run).returncode == 0
        return opened_document(
            browser, f"file://{run / 'report.html'}#{fragment}", tmp_path / "profile"
        )

    return open_page


def test_hostile_answers_stay_text(opened, tmp_path):
    run = write_run(tmp_path / "run")
    lines = [answer(f"<u>{name}</u>", text) for name, text in HOSTILE.items()]
    write_lines(run / "rollouts" / "phase-000001.jsonl", lines)
    document = rendered(opened(run))
    assert count(document, "answer") == len(HOSTILE)
    assert "data-pwned" not in document
    for element in ("<img", "<u>", '<b id="injected"', "<!--"):
        assert element not in document
    assert len(re.findall("<script", document)) == 1
    texts = [
        html.unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", document, re.DOTALL)
    ]
    for name in ("script", "end of block", "comment", "markup"):
        assert HOSTILE[name] in texts
    assert any("⟨U+001B⟩[2J" in text for text in texts)


def test_ten_thousand_rollouts(opened, tmp_path):
    run = write_run(tmp_path / "run")
    text = "so 1+1=2, then <think> & so on. " * 50
    for phase in range(10):
        write_lines(run / "rollouts" / f"phase-{phase:06d}.jsonl", [
            answer(f"p/{number // 8}", f"{number} {text}", correct=number % 2 == 0,
                   source="expert" if number % 8 == 7 else "rollout", advantage=0.125,
                   **of_tokens(f"{number} {text}", 20))
            for number in range(1000)
        ])  # fmt: skip
    for fragment in ("", "colour=p&page=7"):
        document = opened(run, fragment)
        assert 'data-answers="10000"' in document
        assert count(document, "group") == 20  # a page of them
        assert count(document, "answer") == 160
        assert (count(document, "token less-likely") > 160) == bool(fragment)
        # The best of three: other programs take the processor away now and then.
        times_ms = [ready_ms(document)]
        while min(times_ms) > MAX_READY_MS and len(times_ms) < 3:
            times_ms.append(ready_ms(opened(run, fragment)))
        assert 0 < min(times_ms) <= MAX_READY_MS


def ready_ms(document):
    """Milliseconds from the beginning of the page to its first view."""
    return int(re.search(r'data-ready-ms="(\d+)"', document)[1])


def of_tokens(text, num_tokens):
    """Values of equal tokens, the last of them with the rest of the text."""
    size = len(text) // num_tokens
    rest = len(text) - size * (num_tokens - 1)
    return {
        "token_characters": [size] * (num_tokens - 1) + [rest],
        "logprobs": [-0.1] * (num_tokens - 1) + [None],
        "weights": [0.9] * num_tokens,
    }


@pytest.mark.parametrize(
    ("colour", "classes"),
    [
        # p = 1, exp(-0.6931) = 0.5, 0.0498; weights 1, 0.5, none; advantage -0.5
        ("p", ["token less-likely l0", "token less-likely l5", "token less-likely l10"]),
        ("w", ["token weight l10", "token weight l5", ""]),
        ("a", ["token down l5", "token down l3", ""]),
    ],
)
def test_tokens_are_coloured(opened, tmp_path, colour, classes):
    run = write_run(tmp_path / "run")
    hostile = "\x1b<b>\U0001f600"
    write_lines(run / "rollouts" / "phase-000001.jsonl", [
        answer("p/0", f"ab{hostile}c", advantage=-0.5, token_characters=[2, len(hostile), 1],
               logprobs=[0.0, -0.6931, -3.0], weights=[1.0, 0.5, None]),
        answer("p/0", "not trained on"),
    ])  # fmt: skip
    document = rendered(opened(run, f"colour={colour}"))
    spans = re.findall(r"<span (?:class=\"([^\"]*)\" )?title=\"([^\"]*)\">(.*?)</span>", document)
    assert [name for name, _, _ in spans] == classes
    assert [html.unescape(text) for _, _, text in spans] == ["ab", "⟨U+001B⟩<b>\U0001f600", "c"]
    assert spans[1][1] == "p 0.500, weight 0.5, advantage \N{MULTIPLICATION SIGN} weight -0.25"
    assert "not trained on" in document


def test_two_phases_beside_each_other(opened, tmp_path):
    run = write_run(tmp_path / "run")
    for phase, (text, correct) in enumerate(
        [("so 3 + 4 = 8 then", False), ("so 3 + 4 = 7 then", True)]
    ):
        write_lines(run / "rollouts" / f"phase-{phase}.jsonl", [
            answer("p/0", text, correct=correct), answer(f"only/{phase}", "alone"),
            answer("p/1", "equal"), answer("p/1", "the expert", source="expert", correct=False),
        ])  # fmt: skip
    beside = "set=rollouts%2C+phase+1&beside=rollouts%2C+phase+0"
    document = opened(run, beside)
    assert (count(document, "group"), count(document, "answer")) == (2, 6)
    assert re.findall("<mark>(.*?)</mark>", document) == ["7", "8"]
    for change, num_groups in (("better", 1), ("worse", 0), ("same", 1)):
        assert count(opened(run, f"{beside}&change={change}"), "group") == num_groups


@pytest.mark.parametrize(
    ("fragment", "num_groups", "num_answers"),
    [
        ("", 20, 80),
        ("page=2", 5, 20),
        ("page=99", 5, 20),
        ("set=rollouts%2C+phase+1", 5, 20),
        ("source=expert", 20, 20),
        ("verdict=incorrect", 20, 20),
        ("verdict=not+graded", 20, 20),
        ("status=gold_bad", 20, 20),
        ("text=NUMBER+17", 1, 1),
        ("text=is+p%2F17%3F", 1, 4),  # in the prompt: its whole group
        ("text=NUMBER+17&source=expert", 0, 0),
        ("from=0.5", 20, 40),
        ("to=0&source=rollout", 20, 20),
    ],
)
def test_filters_are_the_fragment_of_the_address(
    opened, tmp_path, fragment, num_groups, num_answers
):
    run = write_run(tmp_path / "run")
    for phase, prompts in enumerate((range(20), range(20, 25))):
        write_lines(run / "rollouts" / f"phase-{phase:06d}.jsonl", [
            line for number in prompts for line in (
                answer(f"p/{number}", f"number {number}"),
                answer(f"p/{number}", "wrong", correct=False),
                answer(f"p/{number}", "ungraded", correct=None, status="gold_bad"),
                answer(f"p/{number}", "shown", source="expert"),
            )
        ])  # fmt: skip
    document = opened(run, fragment)
    assert (count(document, "group"), count(document, "answer")) == (num_groups, num_answers)
