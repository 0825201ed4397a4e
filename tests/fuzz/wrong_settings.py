"""Settings of a run with values that do not fit their types, as the parser knows them."""

import random

from luffy_pl.run.sections import LINKED, settings_parser

NUMBERS = ["-1", "0", "2.5", "1e30", "1e400", "nan", "-.inf", "99999999999999999999", "1_000"]
ANYTHING = ["null", "", "text", "[1, 2]", "{a: 1}", "[[[]]]", "{kind: none_such}", "é\u2028\x1b[2J"]
WRONG = {
    "int": [*NUMBERS, *ANYTHING],
    "float": [*NUMBERS, *ANYTHING],
    "bool": ["maybe", "2", *ANYTHING],
    "str": ["5", "../../..", "\udcff", "a\nb", "~", "x" * 5000, "conf/quickstart.yaml", *ANYTHING],
}
# Of Lightning, and of a run itself: what is wrong with them must be one line too.
MORE = {
    "trainer.devices": "int", "trainer.max_epochs": "int", "trainer.precision": "str",
    "trainer.accelerator": "str", "trainer.strategy": "str", "trainer.logger": "str",
    "trainer.callbacks": "str", "trainer.log_every_n_steps": "int", "trainer.num_nodes": "int",
    "run_dir": "str", "seed_everything": "int", "cpu_threads": "int", "resume": "bool",
    "overwrite": "bool", "ckpt_path": "str", "config": "str", "loggers": "str",
}  # fmt: skip


def typed_settings() -> dict[str, str]:
    """Dotted name to a key of WRONG; a section counts as text."""
    found = {}
    for action in settings_parser()._actions:
        name = action.dest
        if name not in LINKED and name.rpartition(".")[2] not in ("help", "print_shtab"):
            words = str(getattr(action, "_typehint", action.type))
            kinds = [kind for kind in ("bool", "int", "float") if kind in words]
            found[name] = kinds[0] if kinds and "dict" not in words else "str"
    return {**found, **MORE}


def wrong_settings(num: int, *, seed: int) -> list[tuple[str, list[str]]]:
    """Name and arguments of `num` cases, no two alike."""
    rng = random.Random(f"settings {seed}")
    pairs = [(name, value) for name, kind in typed_settings().items() for value in WRONG[kind]]
    return [
        (f"--{name}={ascii(value)[:40]}", [f"--{name}={value}"])
        for name, value in rng.sample(pairs, num)
    ]
