"""For the site: takes figures of experiments in, and drops the address of links that leave docs/.

So the pages can be read in the repository, where such links lead somewhere, and as a site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?:#[^)]*)?\)")


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
        return match["text"]

    return LINK.sub(rewrite, markdown)
