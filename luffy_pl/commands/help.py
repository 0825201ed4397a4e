"""`luffy-pl --help` and `luffy-pl fit --help`: what fits on a screen, without an import.

`--help-all` and `--help SECTION` read the settings themselves: `run/settings_help.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.commands.table import COMMANDS

HELP, HELP_ALL = ("-h", "--help"), "--help-all"
MOST_CHANGED = (
    ("model.policy.path", "required", "the model: a Hugging Face folder or hub name"),
    ("data.train.path", "required", "prompts, golds and traces: a file or hub name"),
    ("data.rollout.num_phases", "500", "how long to train: phases of sampling, then training"),
    ("data.rollout.prompts_per_phase", "128", "prompts of a phase"),
    ("data.rollout.group_size", "8", "answers compared per prompt, expert traces included"),
    ("data.rollout.max_response_tokens", "8192", "longest answer"),
    ("model.optimizer.lr", "1e-06", "learning rate, after warm-up"),
    ("model.optimizer.micro_batch_tokens", "16384", "tokens computed at once: lower it to fit"),
    ("evaluation.every_n_phases", "10", "phases between two evaluations"),
    ("trainer.devices", "auto", "GPUs, or processes on a CPU"),
)
"""Settings, their defaults, and what they do."""


def usage() -> str:
    """Shown by `luffy-pl --help`."""
    lines = [f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "luffy-pl: learning to reason under off-policy guidance",
            "",
            "usage: luffy-pl COMMAND [options]     options of a command: luffy-pl COMMAND --help",
            "",
            *lines,
            "",
            "  --config A --config B   later files win, leaf by leaf; then --dotted.key value",
            "  --print_config          show the composed configuration and stop",
            "  --dry_run               read settings and data, say what would be done, and stop",
            "  --debug                 show the traceback of an error",
            "  --plugin FILE.py        run a file of yours that registers a reward, a grader, ...",
            "  --allow_import PACKAGE  let a configuration name classes of a package of yours",
            "",
            "exit codes: 0 done, 2 configuration, 3 data, 4 model, 5 engine or rank, 6 verifier,",
            "            7 diverged, 8 storage, 9 memory, 130 interrupted, 143 terminated,",
            "            1 a sweep with cells that failed, an estimate that does not fit, a defect",
            "",
        ]
    )


def run_usage(command: str) -> str:
    """Shown by `luffy-pl fit --help`, and by the other commands with the settings of a run."""
    start = f"luffy-pl {command}"
    config = "" if command == "quickstart" else " --config conf/quickstart.yaml"
    resume = (
        "continue from the last checkpoint"
        if command in ("fit", "quickstart")
        else "continue with the answers that were kept"
    )
    return "\n".join(
        [
            f"{start}: {COMMANDS[command][1].partition(':')[0]}",
            "",
            f"usage: {start} --config FILE [--config FILE ...] [--dotted.setting VALUE ...]",
            "",
            f"  {start}{config} --run_dir outputs/mine",
            f"  {start}{config} --config conf/recipe/dapo.yaml --dry_run",
            "",
            "Settings that people change, with their defaults; a configuration file has its own:",
            *(f"  --{name:<35} {text} ({default})" for name, default, text in MOST_CHANGED),
            "",
            "Options:",
            "  --config FILE      a YAML file, or bundled:NAME; later files win, leaf by leaf",
            "  --run_dir DIR      all files of the run (outputs/run)",
            f"  --resume           {resume}",
            "  --overwrite        replace the run in run_dir",
            "  --dry_run          read settings and data, say what would be done, and stop",
            "  --print_config     show the composed configuration and stop",
            "  --ckpt_path FILE   a checkpoint to start from, or to evaluate",
            "  --plugin FILE.py   run a file of yours that registers a reward, a grader, ...",
            "  --debug            show the traceback of an error",
            "",
            "Everything else:",
            *(
                f"  {what:<34} {text}"
                for what, text in (
                    (f"{start} --help data.rollout", "all settings of a section: data.train,"),
                    ("", "model.objective, evaluation, trainer, ..."),
                    (f"{start} --help-all", "all sections"),
                    ("luffy-pl completion", "a script that completes settings on Tab"),
                    ("docs/configuration.md", "the same as a page"),
                )
            ),
            "",
        ]
    )


def asked_help(words: Sequence[str]) -> str | None:
    """What help a command line asks for: `""` the screen, a section's name, or `--help-all`.

    None: it asks for none.
    """
    for place, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag == HELP_ALL:
            return HELP_ALL
        if flag in HELP:
            following = words[place + 1] if place + 1 < len(words) else ""
            return value or ("" if following.startswith("-") else following)
        if flag.startswith("--") and flag.endswith(".help"):
            return flag.removeprefix("--").removesuffix(".help")
    return None
