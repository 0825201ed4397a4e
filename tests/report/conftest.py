"""One browser for the tests of a module."""

import pytest
from report.browser import DESKTOP, Browser, find_browser


@pytest.fixture(scope="module")
def started_browser(tmp_path_factory):
    find_browser()
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started_browser):
    started_browser.resize(DESKTOP)
    started_browser.prefer("light")
    return started_browser


@pytest.fixture
def opened(browser, command_line):
    """Open a run's report at a fragment; returns the browser."""

    def open_page(run, fragment=""):
        if not (run / "report.html").exists():
            assert command_line("report", run).returncode == 0
        browser.open(run / "report.html", fragment)
        return browser

    return open_page
