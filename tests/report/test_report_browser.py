"""The report's page in a real browser: answers, filters, and what text of a model can do there."""

import html
import re

import pytest
from report.report_runs import HOSTILE, answer, write_lines, write_run

MAX_READY_MS = 3000


def test_hostile_answers_stay_text(opened, tmp_path):
    run = write_run(tmp_path / "run")
    lines = [answer(f"<u>{name}</u>", text) for name, text in HOSTILE.items()]
    write_lines(run / "rollouts" / "phase-000001.jsonl", lines)
    page = opened(run)
    assert page.count(".answer") == len(HOSTILE)
    assert not page.run("'pwned' in document.documentElement.dataset")
    for element in ("img", "u", "#injected", "#groups script"):
        assert page.count(element) == 0
    texts = page.run("[...document.querySelectorAll('.answer pre')].map((one) => one.textContent)")
    for name in ("script", "end of block", "comment", "markup"):
        assert HOSTILE[name] in texts
    assert any("⟨U+001B⟩[2J" in text for text in texts)
    assert page.problems == []


FORMULAS = {
    r"so \(\frac{1}{2}\)": ("\\(\\frac{1}{2}\\)", ".formula .mfrac"),
    r"then $x^2$ it is": ("$x^2$", ".formula .msupsub"),
    r"\[\sqrt{2}\]": (r"\[\sqrt{2}\]", ".formula.display .sqrt"),
    r"\boxed{\frac{3}{4}}": (r"\boxed{\frac{3}{4}}", ".formula .mfrac"),
    r"\begin{align*}a&=b\\c&=d\end{align*}": (
        r"\begin{align*}a&=b\\c&=d\end{align*}", ".formula.display .col-align-r",
    ),
}  # fmt: skip
NO_FORMULAS = (
    r"$\href{javascript:document.documentElement.dataset.pwned=1}{x}$",
    r"$\htmlData{pwned=1}{x}$",
    r"$\includegraphics{http://example.com/x.png}$",
    r"$\def\x{\x\x}\x$",
    r"$\phantom{not}right$",
    r"$a\textcolor{white}{b}$",
    r"$x\kern-9em y$",
    r"$x \!\!\!\!\! y$",
    r"$1 % 2$",
    r"$\unknown{1}$",
    "$" + "{" * 270 + "$",
    "$" + "{" * 130 + "}" * 130 + "$",
    "it cost $5 and then $6",
)


def test_mathematics_is_drawn_and_can_do_nothing_else(opened, tmp_path):
    run = write_run(tmp_path / "run")
    texts = [*FORMULAS, r"$\text{<img src=x onerror=alert(1)>}$", *NO_FORMULAS]
    write_lines(run / "rollouts" / "phase-1.jsonl", [
        answer(f"p/{place}", text) for place, text in enumerate(texts)
    ])  # fmt: skip
    page = opened(run)
    found = page.run(
        "[...document.querySelectorAll('.answer pre')].map((pre) => ({text: pre.textContent,"
        "formulas: [...pre.querySelectorAll('.formula')].map((one) => one.title)}))"
    )
    for place, (source, inside) in enumerate(FORMULAS.values()):
        assert found[place]["formulas"] == [source]
        assert page.count(f".group:nth-child({place + 1}) {inside}") > 0, source
    assert page.count("#groups img, #groups a[href^=java]") == 0
    for text, one in zip(NO_FORMULAS, found[len(FORMULAS) + 1 :], strict=True):
        assert (one["text"], one["formulas"]) == (text, [])
    assert not page.run("'pwned' in document.documentElement.dataset")
    assert page.problems == []
    # As written, on demand.
    page.open(run / "report.html", "formulas=off")
    assert page.count(".formula") == 0


def test_labels_of_an_axis_differ(opened, tmp_path):
    page = opened(write_run(tmp_path / "run"), "")
    for splits, labels in (
        ("[1.09, 1.095, 1.1]", "1.09 1.095 1.1"),
        ("[0, 0.5, 1]", "0 0.5 1"),
        ("[1.0920, 1.0922, 1.0924]", "1.092 1.0922 1.0924"),
        ("[20000, 20010, null]", "20000 20010 "),
    ):
        assert page.run(f"labelsOf({splits}).join(' ')") == labels


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
    for fragment in ("colour=none", "colour=p&page=7"):
        page = opened(run, fragment)
        assert page.run("document.getElementById('place').dataset.answers") == "10000"
        assert page.count(".group") == 20  # a page of them
        assert page.count(".answer") == 160
        assert (page.count(".token.less-likely") > 160) == ("colour=p" in fragment)
        # The best of three: other programs take the processor away now and then.
        times_ms = [ready_ms(page)]
        while min(times_ms) > MAX_READY_MS and len(times_ms) < 3:
            times_ms.append(ready_ms(opened(run, fragment)))
        assert 0 < min(times_ms) <= MAX_READY_MS
    page = opened(run, "text=999+so")
    assert page.run("document.getElementById('place').dataset.answers") == "10"


def ready_ms(page):
    """Milliseconds from the beginning of the page to its first view."""
    return int(page.run("document.documentElement.dataset.readyMs"))


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
    ("fragment", "classes"),
    [
        # p = 1, exp(-0.6931) = 0.5, 0.0498; weights 1, 0.5, none; advantage -0.5
        ("colour=p", ["token less-likely l0", "token less-likely l5", "token less-likely l10"]),
        ("", ["token weight l10", "token weight l5", ""]),
        ("colour=a", ["token down l5", "token down l3", ""]),
    ],
)
def test_tokens_are_coloured_by_weight_or_as_asked(opened, tmp_path, fragment, classes):
    run = write_run(tmp_path / "run")
    hostile = "\x1b<b>\U0001f600"
    write_lines(run / "rollouts" / "phase-000001.jsonl", [
        answer("p/0", f"ab{hostile}c", advantage=-0.5, token_characters=[2, len(hostile), 1],
               logprobs=[0.0, -0.6931, -3.0], weights=[1.0, 0.5, None]),
        answer("p/0", "not trained on"),
        answer("p/0", "all alike", advantage=1.0, token_characters=[3, 6], logprobs=[0.0, -0.6931],
               weights=[1.0, 1.0]),
    ])  # fmt: skip
    page = opened(run, fragment)
    document = page.markup()
    spans = re.findall(r"<span (?:class=\"([^\"]*)\" )?title=\"([^\"]*)\">(.*?)</span>", document)
    assert [name for name, _, _ in spans[:3]] == classes
    assert [html.unescape(text) for _, _, text in spans[:3]] == ["ab", "⟨U+001B⟩<b>\U0001f600", "c"]
    assert spans[1][1] == "p 0.500, weight 0.5, advantage \N{MULTIPLICATION SIGN} weight -0.25"
    assert "not trained on" in document
    # Where all weights are one, there is nothing to colour by weight; the number is said.
    assert (len(spans) == 3) == (fragment == "")
    assert "each token weighs 1" in document
    legend = page.run("document.getElementById('legend').textContent")
    name = {"": "weight", "colour=p": "probability", "colour=a": "advantage"}[fragment]
    assert legend.startswith(f"Colour: {name}")


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
    page = opened(run, beside)
    assert (page.count(".group"), page.count(".answer")) == (2, 6)
    assert re.findall("<mark>(.*?)</mark>", page.markup()) == ["7", "8"]
    for change, num_groups in (("better", 1), ("worse", 0), ("same", 1)):
        assert opened(run, f"{beside}&change={change}").count(".group") == num_groups


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
        ("id=p%2F17", 1, 4),
        ("answers&id=p%2F1", 1, 4),
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
    page = opened(run, fragment)
    assert (page.count(".group"), page.count(".answer")) == (num_groups, num_answers)
