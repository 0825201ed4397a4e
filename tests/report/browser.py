"""A page in a real browser: Debian's chromium, or what LUFFY_BROWSER names.

One browser is started for a module and driven over a pipe by the DevTools protocol.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

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
    "--remote-debugging-pipe",
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
DEADLINE_S = 120


def find_browser():
    found = shutil.which(os.environ.get("LUFFY_BROWSER", "chromium"))
    if found is None:
        pytest.skip("needs chromium (apt-get install chromium), or LUFFY_BROWSER")
    return found


class Browser:
    """A browser with one page; `problems` are errors of the page that it told us of."""

    def __init__(self, profile):
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for pair in (os.pipe(), os.pipe())
                for end in pair]  # fmt: skip
        theirs_in, self._out, self._in, theirs_out = ends
        # The protocol speaks over descriptors 3 and 4.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', find_browser(),
             *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self._session = b"", 0, None
        self.problems = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.resize(DESKTOP)

    def send(self, method, **params):
        """The result of one command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self):
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._in], [], [], DEADLINE_S)
            received = os.read(self._in, 1 << 20) if readable else b""
            assert received, "the browser is gone, or says nothing"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(message)
        if answer.get("method") == "Runtime.exceptionThrown":
            self.problems.append(answer["params"]["exceptionDetails"])
        if answer.get("method") == "Log.entryAdded":
            self.problems.append(answer["params"]["entry"]["text"])
        return answer

    def open(self, page, fragment=""):
        """Load a file and wait for its first view."""
        self.send("Page.navigate", url="about:blank")
        self.problems.clear()
        self.send("Page.navigate", url=f"file://{page}#{fragment}")
        self.wait_for("document.documentElement?.dataset.readyMs > 0")

    def run(self, expression):
        """The value of an expression in the page."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition, *, seconds=DEADLINE_S):
        """Until it holds in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition}: {self.problems}"
            time.sleep(0.02)

    def markup(self, selector="#groups"):
        """Of an element as the script made it."""
        return self.run(f"document.querySelector({json.dumps(selector)}).outerHTML")

    def count(self, selector):
        """Elements that a selector finds."""
        return self.run(f"document.querySelectorAll({json.dumps(selector)}).length")

    def resize(self, size):
        """PHONE or DESKTOP."""
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme):
        """light or dark."""
        self.send("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme}
        ])  # fmt: skip

    def click(self, x, y):
        """As with a mouse, at a place in view."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def screenshot(self, path):
        """What is in view, as PNG."""
        shot = self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        """End the browser and its children."""
        self._session = None
        self.send("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
