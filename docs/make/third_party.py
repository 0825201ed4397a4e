"""Files of other projects that pages embed: fetched from npm, checked, and kept with their hashes.

    python docs/make/third_party.py

writes luffy_pl/report/page/third_party/ and docs/third_party/. A tarball must have the digest that
stands here; to update a package, change its version, run the script, and put the digest that it
names here after a look at what changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "luffy_pl" / "report" / "page" / "third_party"
SITE = ROOT / "docs" / "third_party"
MANIFEST = "manifest.json"
# Faces that mathematics uses without \mathfrak, \mathsf in bold and the like; others fall back.
FONTS = (
    "AMS-Regular", "Caligraphic-Regular", "Fraktur-Regular", "Main-Bold", "Main-Italic",
    "Main-Regular", "Math-Italic", "SansSerif-Regular", "Script-Regular", "Size1-Regular",
    "Size2-Regular", "Size3-Regular", "Size4-Regular", "Typewriter-Regular",
)  # fmt: skip


class Package(NamedTuple):
    """A package of the registry: its tarball's SHA-512, and its files by the names they get."""

    name: str
    version: str
    sha512: str
    licence: str
    folder: Path
    files: dict[str, str]


PACKAGES = (
    Package(
        "uplot", "1.6.32",
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "MIT", PAGE,
        {"uplot.js": "dist/uPlot.iife.min.js", "uplot.css": "dist/uPlot.min.css",
         "uplot.LICENSE": "LICENSE"},
    ),
    Package(
        "katex", "0.19.1",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        "MIT, fonts OFL-1.1", PAGE,
        {"katex.js": "dist/katex.min.js", "katex.css": "dist/katex.min.css",
         "katex.LICENSE": "LICENSE"},
    ),
    Package(
        "iframe-worker", "1.0.4",
        "roeaaI+Lg1LJNfgpCjoRe/+WzEjy9+Z08LoEvu85MCPbBjwm+qXz8Ag5U05lHa6V1CysZyGzE0SOkAtSUA5q7Q==",
        "MIT", SITE,
        {"iframe-worker.js": "shim/index.js", "iframe-worker.LICENSE": "LICENSE"},
    ),
)  # fmt: skip


def main() -> int:
    """Write the files and a manifest for each folder."""
    manifests: dict[Path, list[dict[str, object]]] = {}
    for package in PACKAGES:
        package.folder.mkdir(parents=True, exist_ok=True)
        hashes = {}
        for name, content in fetch(package).items():
            (package.folder / name).write_bytes(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        manifests.setdefault(package.folder, []).append({
            "name": package.name, "version": package.version, "licence": package.licence,
            "tarball_sha512": package.sha512, "sha256": hashes,
        })  # fmt: skip
    for folder, packages in manifests.items():
        (folder / MANIFEST).write_text(json.dumps(packages, indent=1) + "\n")
    return 0


def fetch(package: Package) -> dict[str, bytes]:
    """The package's files by the names they get; katex.css holds its fonts."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        [tarball] = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if digest != package.sha512:
            sys.exit(f"{package.name} {package.version}: the tarball's SHA-512 is {digest}")
        with tarfile.open(tarball) as opened:
            files = {name: member(opened, inside) for name, inside in package.files.items()}
            if package.name == "katex":
                fonts = {name: member(opened, f"dist/fonts/KaTeX_{name}.woff2") for name in FONTS}
                files["katex.css"] = with_fonts(files["katex.css"].decode(), fonts).encode()
    return files


def member(tarball: tarfile.TarFile, name: str) -> bytes:
    """One file of a package."""
    file = tarball.extractfile(f"package/{name}")
    assert file is not None, name
    return file.read()


def with_fonts(css: str, fonts: dict[str, bytes]) -> str:
    """The style with its fonts as data; faces that are not among them are left out."""

    def embed(match: re.Match[str]) -> str:
        found = re.search(r"fonts/KaTeX_([\w-]+)\.woff2", match[0])
        if found is None or found[1] not in fonts:
            return ""
        data = base64.b64encode(fonts[found[1]]).decode()
        source = f'src:url(data:font/woff2;base64,{data}) format("woff2")}}'
        return re.sub(r"src:.*\}", lambda _: source, match[0])

    return re.sub(r"@font-face\{[^}]*\}", embed, css)


if __name__ == "__main__":
    sys.exit(main())
