"""A page in a real browser: Debian's chromium, or what LUFFY_BROWSER names."""

import os
import re
import shutil
import subprocess

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser():
    found = shutil.which(os.environ.get("LUFFY_BROWSER", "chromium"))
    if found is None:
        pytest.skip("needs chromium (apt-get install chromium), or LUFFY_BROWSER")
    return found


def opened_document(browser, url, profile):
    """Markup of the page after its script ran."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--dump-dom"]
    # Time that passes as fast as the page can: values of tokens are unpacked after it has loaded.
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", url],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert 'data-ready-ms="' in done.stdout, done.stderr[-2000:]
    return done.stdout


def rendered(document):
    """Markup of the answers as the script made it, without the blocks of data they came from."""
    return re.sub(r'<script type="application/.*?</script>', "", document, flags=re.DOTALL)


def count(document, name):
    """Elements whose class begins with `name`."""
    return len(re.findall(rf'class="{name}[" ]', rendered(document)))
