"""The site builds without a warning, shows nothing from elsewhere, and names what there is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import readme_commands
from report.browser import Browser, find_browser
from scripts import load

from docs.pages import DOCS, ROOT, commands, pages
from luffy_pl.cli import COMMANDS
from luffy_pl.config.kinds import SECTIONS, fields_of
from luffy_pl.registry import known as known_kinds

# Beginnings of commands that no page test runs, to the test that does.
RUN_BY = {
    "luffy-pl sweep cluster_grid.yaml --summarize": "sweep/test_run.py",
    "luffy-pl view outputs/quickstart --serve --port 8000": "report/test_view.py",
    "luffy-pl view outputs/luffy --serve --port 8000": "report/test_view.py",
    "luffy-pl data prepare openr1": "corpus/test_prepare.py",
    "luffy-pl data prepare gsm8k": "corpus/test_prepare.py",
    "luffy-pl data prepare jsonl": "corpus/test_prepare.py",
    "luffy-pl data check --config conf/gsm8k_smollm2.yaml": "corpus/test_check.py",
    "luffy-pl traces generate": "traces/test_generate.py",
    "luffy-pl model prepare": "model/test_prepare.py",
    "luffy-pl export": "model/test_export.py",
    "luffy-pl bench learner": "bench/test_learner.py",
    "luffy-pl bench ": "bench/test_kinds.py",
    "luffy-pl fit --config conf/luffy.yaml --config judged.yaml": "plugins/test_judge_reward.py",
    "luffy-pl serve MODEL": "rollout/test_server_pool.py",
    "luffy-pl serve TEACHER": "traces/test_vllm_endpoint.py",
    "luffy-pl serve outputs/quickstart_model --chat": "traces/test_vllm_endpoint.py",
    "luffy-pl chat": "chat/test_chat.py",
    "torchrun": "distributed/test_two_ranks.py",
    "mkdir -p ~/.local/share/bash-completion/completions": "docs/test_site.py",
}
REPOSITORY = "git@example.org:owner/luffy-pl.git"
PROGRAMS = ("make", "mkdir", "torchrun", "vllm", "docs/whole_path.sh", "luffy-pl")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "REPOSITORY_URL": REPOSITORY},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_built_and_nothing_is_loaded_from_elsewhere(site):
    built = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert {name.replace(".md", ".html") for name in pages()} <= built
    loading = re.compile(r'<(?:script|img|iframe)[^>]* src="([^"]+)|<link[^>]* href="([^"]+)')
    for name in built:
        for match in loading.finditer((site / name).read_text()):
            address = match[1] or match[2]
            assert not re.match(r"(?:\w+:)?//", address), f"{name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\((?![\"']?data:)[\"']?(?:\w+:)?//", style.read_text()), style


def test_the_site_leads_to_the_repository(site):
    page = (site / "index.html").read_text()
    assert '<a href="https://example.org/owner/luffy-pl" title="Go to repository"' in page
    assert 'href="https://example.org/owner/luffy-pl/blob/HEAD/experiments/01_methods/' in page
    # The theme's own link has a script ask the host for its stars.
    assert 'data-md-component="source"' not in page


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://user:secret@example.org:8080/a/b.git", "https://example.org:8080/a/b"),
        ("ssh://git@example.org/a/b", "https://example.org/a/b"),
        ("/some/folder", None),
        ("", None),
    ],
)
def test_the_address_of_the_repository(monkeypatch, address, link):
    hook = load("docs", "make", "repository_links.py")
    monkeypatch.delenv("REPOSITORY_URL", raising=False)
    monkeypatch.setattr(hook, "origin", lambda: address)
    assert hook.repository() == link


def test_every_page_is_in_the_navigation_once_and_the_glossary_is_linked():
    listed = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(set(listed))
    assert "(glossary.md)" in pages()["index.md"]


def test_the_site_is_searched_from_a_disk(site, tmp_path):
    find_browser()
    browser = Browser(tmp_path)
    try:
        browser.send("Page.navigate", url=f"file://{site}/index.html")
        browser.wait_for("document.querySelector('.md-search__input')")
        browser.run("document.querySelector('.md-search__input').focus()")
        browser.send("Input.insertText", text="entropy collapse")
        # The page looks when a key is let go, and inserting a text presses none.
        browser.run("document.querySelector('.md-search__input').dispatchEvent(new Event('keyup'))")
        browser.wait_for("document.querySelector('.md-search-result__item a')", seconds=60)
        found = browser.run("document.querySelector('.md-search-result__item a').href")
        assert found.startswith(f"file://{site}/")
    finally:
        browser.close()


def test_figures_of_experiments_are_on_the_site(site):
    assert "figures/miniature.png" in (site / "index.html").read_text()
    assert (site / "figures" / "miniature.png").stat().st_size > 10_000


def test_the_configuration_page_is_that_of_the_code():
    expected = load("docs", "make", "configuration.py").page()
    assert (DOCS / "configuration.md").read_text() == expected, "run make docs"


def test_every_command_of_the_pages_is_a_command():
    for name, page in pages().items():
        for line in commands(page):
            program, *rest = line.split()
            assert program in PROGRAMS, f"{name}: {line}"
            assert program != "luffy-pl" or rest[0] in COMMANDS, f"{name}: {line}"
            if program == "make":
                assert line in readme_commands.commands().values(), f"{name}: {line}"


def test_commands_that_run_elsewhere_are_there():
    lines = {line for page in pages().values() for line in commands(page)}
    for beginning in RUN_BY:
        assert any(line.startswith(beginning) for line in lines), beginning
    assert all((ROOT / "tests" / where).exists() for where in RUN_BY.values())


def test_every_leaf_that_the_migration_names_exists():
    known = (DOCS / "configuration.md").read_text()
    named = re.findall(r"`((?:data|model|evaluation|checkpoint)\.[\w.]+)", pages()["migration.md"])
    released = {
        "data.train_batch_size",
        "data.max_prompt_length",
        "model.enable_gradient_checkpointing",
    }
    for path in set(named) - released:
        section, _, leaf = path.rpartition(".")
        if kinds := SECTIONS.get(section):
            names = known_kinds(kinds.kind)
            assert any(leaf in fields_of(kinds.kind, name, where=path) for name in names), path
            continue
        found = re.search(rf"^#+ `{re.escape(section)}`\n(.*?)(?=^##|\Z)", known, re.M | re.S)
        is_section = re.search(rf"^#+ `{re.escape(path)}`$", known, re.M)
        assert is_section or (found and f"| `{leaf}` |" in found[1]), path


@pytest.mark.runs
def test_the_notebook_runs(work_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(work_dir())
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    small = {'"outputs/notebook"': repr(str(tmp_path)), 'phases": 20': 'phases": 2'}
    sources, names = {}, {}
    for cell in code:
        assert cell["outputs"], "run make notebook"
        sources[cell["id"]] = cell["source"]
        for old, new in small.items():
            sources[cell["id"]] = sources[cell["id"]].replace(old, new)
    shown = list(load("docs", "make", "notebook.py").run(sources, names))
    # What does not depend on the length of the run is stored as it is today.
    [weights] = code[0]["outputs"]
    assert shown[0][0]["data"] == weights["data"]
    assert [[one["output_type"] for one in outputs] for outputs in shown] == [
        [one["output_type"] for one in cell["outputs"]] for cell in code
    ]
    assert (DOCS / "notebook.ipynb").stat().st_size < 30_000
    assert "".join(names["pieces"]) == names["trace"]["response"]
    assert len(names["left"]) == 2
