"""`luffy-pl view`: the page written and opened, or served on this machine alone."""

import http.client
import threading
import time
import urllib.request

import pytest
from report.report_runs import write_lines, write_run

from luffy_pl.report import view


@pytest.fixture
def looked_at(monkeypatch):
    """Addresses that a browser was asked to open."""
    found = []
    monkeypatch.setattr(view.webbrowser, "open", found.append)
    return found


def test_the_page_is_written_and_opened_where_there_is_a_screen(
    command_line, looked_at, monkeypatch, tmp_path
):
    run = write_run(tmp_path / "run")
    page = run / "report.html"
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", "")
    done = command_line("view", run)
    assert (done.returncode, done.stdout) == (0, f"page: {page}\n")
    assert (looked_at, page.exists()) == ([], True)
    monkeypatch.setenv("DISPLAY", ":0")
    assert command_line("view", run, "--html", tmp_path / "v.html").returncode == 0
    assert looked_at == [f"file://{tmp_path / 'v.html'}"]


def test_a_folder_that_is_no_run(command_line, tmp_path):
    for more in ([], ["--serve", "--port", "0"]):
        done = command_line("view", tmp_path, *more)
        assert (done.returncode, "has no metrics.jsonl" in done.stderr) == (8, True)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A run, and the port its page is served at."""
    run = write_run(tmp_path / "run")
    lines, servers = [], []
    real = view.ThreadingHTTPServer
    monkeypatch.setattr(view, "say", lines.append)
    monkeypatch.setattr(
        view, "ThreadingHTTPServer", lambda *args: servers.append(real(*args)) or servers[0]
    )
    thread = threading.Thread(target=view.main, args=([str(run), "--serve", "--port", "0"],))
    thread.start()
    while not lines:
        time.sleep(0.01)
    yield run, servers[0].server_port
    servers[0].shutdown()
    thread.join(timeout=10)


def ask(port, path="/", host="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    return connection.getresponse().status


def test_a_served_page_is_made_again_at_each_load(server):
    run, port = server
    address = f"http://127.0.0.1:{port}/"
    assert "expert_nats" not in urllib.request.urlopen(address).read().decode()
    write_lines(run / "metrics.jsonl", [{"step": 3, "timing_s/phase": 1.0}])
    assert "seconds of a phase" in urllib.request.urlopen(address).read().decode()
    (run / "evaluation.jsonl").unlink()
    (run / "metrics.jsonl").unlink()
    assert ask(port) == 500


def test_nobody_else_is_answered(server):
    _, port = server
    assert ask(port) == ask(port, host="localhost") == 200
    assert ask(port, host="rebound.example") == 403
    assert ask(port, path="/config.yaml") == 404


def test_a_taken_port_is_one_line(command_line, server, tmp_path):
    done = command_line("view", write_run(tmp_path / "b"), "--serve", "--port", server[1])
    assert done.returncode == 2
    assert "--port: cannot be listened on" in done.stderr
