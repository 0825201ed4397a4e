"""`make notebook`: run docs/notebook.ipynb and store what its cells show."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "notebook.ipynb"
MAX_LINES = 24
"""Lines kept of what a cell prints: half from the start, half from the end."""


def main() -> int:
    """Run all cells in an empty folder, and write the notebook again."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            found = list(run({cell["id"]: cell["source"] for cell in code}))
        finally:
            os.chdir(here)
    for number, (cell, outputs) in enumerate(zip(code, found, strict=True), start=1):
        cell |= {"execution_count": number, "outputs": outputs}
        for output in outputs:
            if output["output_type"] == "execute_result":
                output["execution_count"] = number
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def run(
    cells: Mapping[str, str], names: dict[str, Any] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Outputs of each cell as a notebook has them; the cells see each other's names.

    Args:
        cells: id to source.
        names: what the cells see and define.
    """
    names = {} if names is None else names
    for name, source in cells.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            value = run_cell(source, names, name)
        outputs: list[dict[str, Any]] = []
        if text := shortened(printed.getvalue()):
            outputs.append({"output_type": "stream", "name": "stdout", "text": text})
        if value is not None:
            data = {"text/plain": repr(value)}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = value._repr_html_()
            outputs.append({"output_type": "execute_result", "data": data, "metadata": {}})
        yield outputs


def run_cell(source: str, names: dict[str, Any], name: str) -> Any:
    """Execute a cell; the value of the expression that it ends with, None if it ends otherwise."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), names)


def shortened(text: str) -> str:
    """Without its middle, where it has many lines."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= MAX_LINES:
        return text
    half = MAX_LINES // 2
    return "".join([*lines[:half], f"[{len(lines) - 2 * half} lines]\n", *lines[-half:]])


if __name__ == "__main__":
    sys.exit(main())
