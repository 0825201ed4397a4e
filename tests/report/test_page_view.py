"""What a person sees of the report's page, and how they get about in it."""

import pytest
from report.browser import DESKTOP, PHONE
from report.report_runs import answer, write_lines, write_run

LEDGER = "ledger/generated_tokens"


@pytest.fixture
def run(tmp_path):
    """Four phases with a ledger, an evaluation before and after, and answers of phases 2 and 4."""
    run = write_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [
        {"step": step, "on_off_metrics/on_score": step / 4, "on_off_metrics/off_score": 1.0,
         LEDGER: 1000.0 * step**2} for step in (1, 2, 3, 4)
    ])  # fmt: skip
    write_lines(run / "evaluation.jsonl", [
        {"phase": phase, "benchmark": "heldout", "n": 4, "k": 1, "avg": avg, "low": avg - 0.1,
         "high": avg + 0.1} for phase, avg in ((0, 0.25), (4, 0.75))
    ])  # fmt: skip
    for phase in (2, 4):
        write_lines(run / "rollouts" / f"phase-{phase:06d}.jsonl", [
            line for number in range(12) for line in (
                answer(f"p/{number}", f"of phase {phase} " * 20),
                answer(f"p/{number}", "shown", source="expert"),
            )
        ])  # fmt: skip
    return run


def legends(page):
    """Title to the lines of the legend of each figure."""
    return page.run(
        "Object.fromEntries([...document.querySelectorAll('figure')].map((one) => ["
        "one.querySelector('figcaption').textContent,"
        "[...one.querySelectorAll('.legend li')].map((line) => line.textContent)]))"
    )


def ticks(page):
    """Places of the first figure's axis."""
    return page.run("plots.get(0).data[0]")


def test_each_curve_is_drawn_once_with_its_first_and_last_value(opened, run):
    page = opened(run)
    assert legends(page) == {
        "accuracy (percent)": ["heldout 25 → 75"],
        "reward": ["policy 0.25 → 1", "expert 1 → 1"],
        "rollouts, phase 4": ["correct 12 in all", "incorrect 0 in all"],
    }
    assert page.count("canvas") == 3
    assert page.problems == []
    # Training comes first, then the results.
    order = page.run("[...document.querySelectorAll('section')].map((one) => one.id)")
    assert order == ["training", "results", "lengths", "answers"]
    cells = page.run("[...document.querySelectorAll('#results td')].map((one) => one.textContent)")
    assert cells[:3] == ["25.0", "75.0", "[65.0, 85.0]"]


def test_the_axis_is_switched_and_kept_in_the_address(opened, run):
    page = opened(run)
    assert ticks(page) == [0, 4]
    labels = page.run("[...document.querySelectorAll('#axis label')].map((l) => l.textContent)")
    # No FLOPs were counted, so none are offered.
    assert [label.strip() for label in labels] == ["phase", "generated tokens"]
    page.run("document.querySelector('#axis [value=generated_tokens]').click()")
    assert ticks(page) == [0, 16000]
    address = page.run("location.hash")
    assert address == "#training&x=generated_tokens"
    page = opened(run, address.removeprefix("#"))
    assert ticks(page) == [0, 16000]
    assert page.run("document.querySelector('#axis input:checked').value") == "generated_tokens"


def is_in_view(page, selector):
    top = page.run(f"document.querySelector({selector!r}).getBoundingClientRect().top")
    return 0 <= top < 300


def test_answers_are_one_click_away(opened, run):
    page = opened(run)
    assert not is_in_view(page, "#answers h2")
    page.run("document.querySelector('.sections [href*=answers]').click()")
    page.wait_for("document.querySelector('#answers h2').getBoundingClientRect().top < 300")
    assert page.run("location.hash") == "#answers"


def test_a_copied_link_scrolls_and_restores_the_filters(opened, run):
    page = opened(run)
    page.run("form.elements.set.value = 'rollouts, phase 2'; form.elements.source.value = 'expert';"
             "form.dispatchEvent(new Event('input'))")  # fmt: skip
    page.wait_for("location.hash.includes('expert')")
    address = page.run("location.hash.slice(1)")
    page = opened(run, address)
    assert is_in_view(page, "#answers h2")
    assert page.run("[form.elements.set.value, form.elements.source.value]") == [
        "rollouts, phase 2", "expert",
    ]  # fmt: skip
    assert (page.count(".group"), page.count(".answer")) == (12, 12)
    assert page.run("document.querySelector('form details').open")
    # The heading of a group is a link to it alone.
    page.run("document.querySelector('.group:nth-child(3) h3 a').click()")
    page.wait_for("document.querySelectorAll('.group').length === 1")
    assert page.run("document.querySelector('.group h3').textContent") == "rollouts, phase 2: p/2"
    page.run("document.getElementById('clear').click()")
    page.wait_for("document.querySelectorAll('.group').length === 20")


def test_a_point_of_a_curve_leads_to_the_answers_of_its_phase(opened, run):
    page = opened(run)
    page.click(*page.run(
        "(() => { const plot = plots.get(1), box = plot.over.getBoundingClientRect();"
        "return [box.left + plot.valToPos(2, 'x'), box.top + 50]; })()"
    ))  # fmt: skip
    link = "#figure-1 .under a"
    page.wait_for(f"document.querySelector({link!r})")
    assert page.run(f"document.querySelector({link!r}).textContent") == "answers of phase 2"
    assert legends(page)["reward"] == ["policy 0.5", "expert 1"]
    page.run(f"document.querySelector({link!r}).click()")
    page.wait_for("document.querySelectorAll('.group').length === 12")
    page.wait_for("document.querySelector('#answers h2').getBoundingClientRect().top < 300")


def test_a_run_without_an_expert_has_no_line_of_one(opened, tmp_path):
    run = write_run(tmp_path / "run")
    # A share that no group of this run could have, as older runs logged it.
    lines = [{"step": 1, "on_off_metrics/on_score": 0.5, "batch/only_expert_solves": 0.0,
              "actor/off_policy_prob": 0.0}]  # fmt: skip
    write_lines(run / "metrics.jsonl", lines)
    page = opened(run)
    assert legends(page) == {"accuracy (percent)": ["heldout 50 → 50"], "reward": ["policy 0.5"]}
    assert page.count("#expert") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_in_its_width(opened, browser, run, scheme):
    browser.resize(PHONE)
    browser.prefer(scheme)
    page = opened(run, "answers")
    assert page.run("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = page.run(
        "[...document.querySelectorAll('main *, header *')].filter((one) =>"
        "!one.closest('.wide') && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map((one) => one.outerHTML)"
    )
    assert wide == []
    assert page.count("canvas") == 3
    paper, ink = (
        page.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert (luminance(paper) < luminance(ink)) == (scheme == "dark")
    assert contrast(paper, ink) > 7
    # Figures follow the size of the window.
    browser.resize(DESKTOP)
    page.wait_for("plots.get(0).width > 350")


def luminance(colour):
    """Of rgb(r, g, b), as WCAG defines it."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_of_figures_follow_the_system(opened, browser, run):
    page = opened(run)
    pixel = (
        "(() => { const c = document.querySelector('canvas').getContext('2d');"
        "return [...c.getImageData(0, 0, c.canvas.width, c.canvas.height).data].filter("
        "(v, n) => n % 4 === 2 && v > 200).length; })()"
    )
    light = page.run(pixel)
    browser.prefer("dark")
    page.wait_for(f"{pixel} !== {light}")
