"""Families that people train, each taken through a run with tiny random weights.

`make families` writes what becomes of each into a table of docs/models.md.
"""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from forks import LUFFY_PL
from policy.families import CASES, PAGE, gap, own_model, tiny_model
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from luffy_pl.bundled import resolve
from luffy_pl.model.weights import policy_state
from luffy_pl.policy.policy import Policy

TRAINED = [
    "qwen2", "qwen3", "qwen3_moe", "qwen3_5_text", "qwen3_next", "llama", "mistral", "phi3",
    "gemma2", "gemma3_text", "olmo3", "smollm3", "granite", "granitemoe", "granitemoehybrid",
    "gpt_oss",
]  # fmt: skip
# Of the tokenizer of the small world; heads of 32, since vLLM on a CPU has no kernel for less.
SIZES = {
    "vocab_size": 32, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
    "hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "moe_intermediate_size": 32, "use_sliding_window": False,
    "mamba_n_heads": 16,
}  # fmt: skip
RUN = [
    "--config", "bundled:quickstart", "--data.benchmarks", "[]",
    "--data.rollout.num_phases", "3", "--data.rollout.prompts_per_phase", "4",
    "--evaluation.before_training", "false", "--samples.groups_per_phase", "null",
    "--checkpoint.every_n_phases", "3",
]  # fmt: skip
ERROR = re.compile(r"error \[\d+\] \S+: ([^:,(]*)")
COLUMNS = (
    "family", "numerics", "rows", "prompt of a group", "fit, hf", "fit, vLLM", "export", "LoRA, hf",
)  # fmt: skip
BEGIN, END = "<!-- trained: written by tests/policy/miniature.py -->", "<!-- end of trained -->"


def sizes(family):
    """Those of SIZES that the family has."""
    usual = CONFIG_MAPPING[family]()
    return {name: size for name, size in SIZES.items() if hasattr(usual, name)}


def model_folder(family, folder):
    """The family's model with the tokenizer of the small world."""
    shutil.copytree(
        resolve("bundled:base"), folder, ignore=shutil.ignore_patterns("model*", "config.json")
    )
    model = tiny_model(family, **sizes(family))
    with torch.no_grad():  # rounding of large logits would be all that an engine differs by
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.mul_(0.3)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    model.save_pretrained(folder)
    return folder


def command(*args):
    """`luffy-pl ARGS`: why it was refused, else None."""
    words = [str(arg) for arg in args]
    # What vLLM sets up for one model stays in the process and does not fit the next.
    code, said = (apart if "vllm" in words else here)(words)
    found = ERROR.search(said)
    return None if not code else f"refused: {found[1].strip()}" if found else f"exit {code}"


def apart(words):
    """Exit code and standard error of a command in a process of its own."""
    done = subprocess.run([LUFFY_PL, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def here(words):
    """The same in this process, without its imports."""
    from luffy_pl.cli import main

    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            return main(words), err.getvalue()
        except SystemExit as left:
            return left.code, err.getvalue()


def fit(model, run, engine, *more):
    """Three phases; the largest difference of engine and trainer in nats, or why there is none."""
    args = ("--model.policy.path", model, "--run_dir", run, "--data.engine.kind", engine)
    if refused := command("fit", *RUN, *args, *more):
        return refused
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return nats(max(row["sync/logprob_gap_nats"] for row in rows if "sync/logprob_gap_nats" in row))


def nats(value):
    """A difference in a cell."""
    return f"{value:.0e}"


def exported(run, folder):
    """Whether an export gives the logits of the trained weights."""
    if refused := command("export", run, "--out", folder):
        return refused
    found = AutoModelForCausalLM.from_pretrained(folder).eval()
    own = AutoModelForCausalLM.from_config(found.config).eval()
    own.load_state_dict(policy_state((run / "checkpoints" / "last.ckpt").resolve()))
    ids_1L = torch.arange(20)[None]
    with torch.no_grad():
        same = torch.equal(found(ids_1L).logits, own(ids_1L).logits)
    return "equal" if same else "wrong"


def cells(family, folder):
    """What became of a family; see COLUMNS."""
    policy, own = Policy(tiny_model(family)).train(), own_model(family)
    model = model_folder(family, folder / "model")
    lora = ("--config", "bundled:hardware/lora")
    return (
        family,
        nats(max(gap(policy, own, *case) for case in CASES)),
        "packed" if policy.packs_rows else "padded",
        "once" if policy.shares_prompts else "in each row",
        fit(model, folder / "hf", "hf"),
        fit(model, folder / "vllm", "vllm"),
        exported(folder / "hf", folder / "export"),
        fit(model, folder / "lora", "hf", *lora),
    )


def write_page(rows):
    """The table of docs/models.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main(families):
    """Try each, and write the page if all were tried."""
    rows = []
    for family in families or TRAINED:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(cells(family, Path(folder)))
        print(*rows[-1], sep=" | ", flush=True)  # noqa: T201
    if not families:
        write_page(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
