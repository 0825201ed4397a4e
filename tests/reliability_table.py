"""The table of docs/reliability.md: cases, what is promised, the tests that provoke them, results.

pytest -m case --junitxml=outputs/cases.xml && python tests/reliability_table.py outputs/cases.xml
"""

import ast
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- cases: written by tests/reliability_table.py -->", "<!-- end of cases -->"


class Case(NamedTuple):
    title: str
    outcome: str
    reason: str = ""  # why no test provokes it


CASES = {
    1: Case("misspelt key", "exit 2, with the nearest known key"),
    2: Case("wrong type, or not one of the choices", "exit 2, with what is allowed"),
    3: Case("value out of range", "exit 2, with the bound"),
    4: Case("two settings that contradict each other", "exit 2 before anything loads"),
    5: Case("missing or broken configuration, a tag", "exit 2, `file:line:column`"),
    6: Case("undefined variable of the environment", "exit 2, names key and variable"),
    7: Case("two configurations", "the later wins, leaf by leaf; the result is kept"),
    8: Case("the run directory holds a run", "exit 2, with the three ways out"),
    9: Case("resumed with another configuration", "said; exit 2 where it would be another run"),
    10: Case("nothing to resume", "exit 8; a run without checkpoint begins again"),
    11: Case("too little memory for the settings", "exit 9, with what was used and what to lower"),
    12: Case("file missing, empty, not Parquet", "exit 3, with path and reason"),
    13: Case("a broken line of JSON", "exit 3, `file:line` and column"),
    14: Case("numbers among the answers", "read as text, and counted"),
    15: Case("prompt, answer or trace null or empty", "exit 3, `file:row`; or skipped"),
    16: Case("not UTF-8", "exit 3, `file:row` and byte"),
    17: Case("a gold that cannot be parsed", "dropped and counted, never paid"),
    18: Case("a gold that does not verify against itself", "dropped and counted, never paid"),
    19: Case("expert trace wrong, or too long", "paid 0 like any answer; never cut"),
    20: Case("prompt longer than the limit", "dropped and counted, never reaches the engine"),
    21: Case("duplicate prompts", "counted; dropped if asked"),
    22: Case("no chat template, no EOS, no padding", "exit 4; lengths are stored"),
    23: Case("tokenizer and model or template do not fit", "exit 4; a thought is opened once"),
    24: Case("text would be encoded otherwise", "the engine's ids are trained"),
    25: Case("the engine dies", "replaced once, same tokens; again within 10 minutes: exit 5"),
    26: Case("the engine hangs", "stacks kept, then as 25; below Python: exit 5"),
    27: Case("the engine does not start", "exit 5, nothing is left running"),
    28: Case("the trainer is killed", "workers are gone within 30 s"),
    29: Case("empty answers", "counted, no mask, no crash"),
    30: Case("too few or too many answers", "exit 5, rewards are never misaligned"),
    31: Case("log-probabilities NaN, None or infinite", "token left out; above 1%: exit 7"),
    32: Case("weights handed over in part", "once more, then exit 5; nothing is sampled"),
    33: Case("rollouts from old weights", "exit 5"),
    34: Case("an answer that hangs the verifier", "wrong after the timeout, the others unaffected"),
    35: Case("an answer that kills a worker", "that answer `crash`, the pool whole"),
    36: Case("workers cannot start", "exit 6 at the self-test"),
    37: Case("a reward term fails", "exit 6, names term and prompt"),
    38: Case("loss or gradient not finite", "weights bit-identical, rows kept; too many: exit 7"),
    39: Case("no given row, or no sampled one", "empty sums are 0; same gradient as in one batch"),
    40: Case("all rewards of a group equal", "advantage 0, counted, one warning"),
    41: Case("out of memory", "micro-batch halved once, same gradient; then exit 9"),
    42: Case("disk full while saving", "the earlier checkpoint stays, tried again; then exit 8"),
    43: Case("killed while saving", "resumes from the earlier checkpoint, bit for bit"),
    44: Case("SIGTERM, SIGUSR1, Ctrl-C", "saved, exit 143 or 130, resumes bit for bit"),
    45: Case("checkpoint cut off, changed or foreign", "skipped by name, or refused"),
    46: Case("clock, read-only folder, no hub", "said at the start; deadlines are not clocks"),
    47: Case("disk full elsewhere", "kept in memory, said, written when it has room; else exit 8"),
    48: Case("two commands in one folder", "exit 8, with process and host of the first"),
    49: Case("a signal while a command starts", "exit 143 or 130 within seconds"),
    50: Case("a rank is killed or stands still", "the others end with 5 and name it"),
    51: Case("broken files in the folder of a run", "skipped by name, or exit 8"),
}  # fmt: skip


def marked_tests(tests: Path = TESTS) -> dict[int, list[str]]:
    """Functions by the cases of their `pytest.mark.case`, as `file::function`."""
    found = defaultdict(list)
    for file in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if ast.unparse(mark).startswith("pytest.mark.case("):
                        name = f"{file.relative_to(tests).as_posix()}::{node.name}"
                        for number in mark.args:
                            found[number.value].append(name)
    return dict(found)


def results_of(*reports: Path) -> dict[str, str]:
    """passed, skipped or failed by `file::function`, from JUnit files: the worst of its cases."""
    order = ["passed", "skipped", "failed"]
    found: dict[str, str] = {}
    for case in (c for r in reports for c in ElementTree.parse(r).getroot().iter("testcase")):
        path = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        name = f"{path}.py::{case.get('name', '').partition('[')[0]}"
        tags = {child.tag for child in case}
        result = "failed" if tags & {"failure", "error"} else "skipped" if tags else "passed"
        found[name] = max(found.get(name, "passed"), result, key=order.index)
    return found


def table(marked: dict[int, list[str]], results: dict[str, str]) -> str:
    """Markdown, one row for each case."""
    lines = ["| # | case | what happens | provoked by | result |", "|---|---|---|---|---|"]
    for number, case in CASES.items():
        names = marked.get(number, [])
        provoked = "<br>".join(f"`{name}`" for name in names) or case.reason
        told = sorted({results.get(name, "not run") for name in names})
        row = [str(number), case.title, case.outcome, provoked, ", ".join(told)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def rows(page: str) -> list[list[str]]:
    """The cells of the table in a page."""
    inner = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in inner]


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    text = table(marked_tests(), results_of(*map(Path, sys.argv[1:])))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
