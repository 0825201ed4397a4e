"""`luffy-pl view RUN [RUN ...]`: the page of `luffy-pl report`, opened, or served on loopback."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError, LuffyError
from luffy_pl.report.page.build import page_pieces, write_page
from luffy_pl.run_dir.read import read_run

LOOPBACK = "127.0.0.1"


def main(argv: Sequence[str]) -> int:
    """Write the page and open it, or serve it until it is interrupted."""
    parser = CommandParser(
        prog="luffy-pl view",
        description="Curves, groups and tokens of runs as one page that works without a network.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders; may still be training")
    parser.add_argument("--html", type=Path, metavar="FILE", help="instead of RUN/report.html")
    parser.add_argument(
        "--serve", action="store_true",
        help="serve the page on this machine alone instead of writing it, newly made at each load",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="of --serve; 0 takes a free one")
    args = parser.parse_args(argv)
    if args.serve and args.html:
        parser.error("--serve writes no file: leave --html out")
    if args.serve:
        serve(args.runs, port=args.port)
        return 0
    path = args.html or args.runs[0] / "report.html"
    write_page(args.runs, path)
    say(f"page: {path}")
    if has_screen():
        webbrowser.open(path.absolute().as_uri())
    return 0


def has_screen() -> bool:
    """Whether a browser would be seen, rather than take the terminal over."""
    on_desktop = sys.platform in ("darwin", "win32")
    return on_desktop or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def serve(runs: Sequence[Path], *, port: int) -> None:
    """Answer requests of this machine until Ctrl-C.

    Raises:
        LuffyError: a folder holds no run now.
        ConfigError: the port is taken.
    """
    for run in runs:
        read_run(run)

    class Handler(PageHandler):
        folders = runs

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            "--port", f"cannot be listened on ({error})", value=port, fix="use --port 0"
        ) from error
    say(f"serving http://{LOOPBACK}:{server.server_port}/ until Ctrl-C; load it again for news")
    with server:
        server.serve_forever()


class PageHandler(BaseHTTPRequestHandler):
    """Gives the page at /, and nothing else; no other name of this machine is answered."""

    folders: Sequence[Path]

    def do_GET(self) -> None:
        """Make the page."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (LOOPBACK, "localhost"):
            # A page of another site that had its name point here could otherwise read ours.
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            pieces = page_pieces(self.folders)
        except LuffyError as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Requests of a person looking at a page are no news."""


def say(text: str) -> None:
    """A line that is not wrapped, so that it can be copied."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)
