"""For the site: a link to the repository, links of pages that leave docs/, experiments' figures.

The address of the repository is REPOSITORY_URL, or that of the clone's origin. Without one the
site has no link to it, and links that leave docs/ become their text.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?:#[^)]*)?\)")
SSH = re.compile(r"(?:ssh://)?git@(?P<host>[^:/]+)[:/](?P<path>.+)")


def on_config(config: Any) -> Any:
    """Set the address of the repository, and its name."""
    config.repo_url = repository()
    config.repo_name = urlsplit(config.repo_url).path.strip("/") if config.repo_url else None
    return config


def repository() -> str | None:
    """An address that a browser can open, without a user, a password or `.git`."""
    address = os.environ.get("REPOSITORY_URL") or origin()
    if match := SSH.fullmatch(address):
        address = f"https://{match['host']}/{match['path']}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.removesuffix('.git').rstrip('/')}"


def origin() -> str:
    """Where this clone was made from; nothing if it is no clone."""
    command = ["git", "config", "--get", "remote.origin.url"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def on_files(files: Files, *, config: Any) -> Files:
    """Figures beside the pages, as figures/<experiment>.png."""
    for figure in sorted(ROOT.glob("experiments/*/figure.png")):
        name = f"figures/{figure.parent.name}.png"
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Rewrite links that leave docs/."""
    here = posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, match["target"]))
        if target.startswith("docs/"):
            return match[0]
        if match["mark"] and target.startswith("experiments/"):
            name = f"figures/{target.split('/')[1]}.png"
            return f"![{match['text']}]({posixpath.relpath(name, here or '.')})"
        if config.repo_url:
            return f"[{match['text']}]({config.repo_url}/blob/HEAD/{target})"
        return match["text"]

    return LINK.sub(rewrite, markdown)
