"""The commands of the README, by name, as the tests run them."""

import re
import shlex
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

# Name to the test that runs the command; test_readme.py holds this list complete.
RUN_BY = {
    "quickstart": "end_to_end/test_quickstart.py",
    "view": "end_to_end/test_quickstart.py",
    "no_shaping": "end_to_end/test_quickstart.py",
    "on_policy": "end_to_end/test_quickstart.py",
    "report": "end_to_end/test_quickstart.py",
    "validate": "end_to_end/test_quickstart.py",
    "from_gguf": "end_to_end/conftest.py",
    "smollm2": "end_to_end/test_smollm2.py",
    "luffy": "test_readme.py",
    "test": "the test run itself",
}


def commands():
    """Name to command line, in the order of the README."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return dict(zip(RUN_BY, lines, strict=True))


def arguments(name, folder):
    """Arguments of `luffy-pl` in the command `name`, its outputs moved into `folder`."""
    program, *args = shlex.split(commands()[name])
    assert program == ".venv/bin/luffy-pl"
    return [arg.replace("outputs/", f"{folder}/") for arg in args]
