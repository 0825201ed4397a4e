"""Families that people train, each taken through a run with tiny random weights.

`python tests/policy/miniature.py [FAMILY ...]` shows what becomes of each, with both engines.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from forks import LUFFY_PL
from policy.families import CASES, gap, own_model, tiny_model
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from luffy_pl.bundled import resolve
from luffy_pl.errors import LuffyError
from luffy_pl.model.weights import policy_state
from luffy_pl.policy.policy import Policy

TRAINED = [
    "qwen2", "qwen3", "qwen3_moe", "qwen3_5_text", "qwen3_next", "llama", "mistral", "phi3",
    "gemma2", "gemma3_text", "olmo3", "smollm3", "granite", "granitemoe", "granitemoehybrid",
    "gpt_oss",
]  # fmt: skip
COLUMNS = (
    "largest difference", "rows", "shared prompt", "hf fit", "vLLM fit", "export", "LoRA",
)  # fmt: skip
# Of the tokenizer of the small world; heads of 32, since vLLM on a CPU has no kernel for less.
SIZES = {
    "vocab_size": 27, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
    "hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "moe_intermediate_size": 32,
}  # fmt: skip
RUN = [
    "--config", "conf/quickstart.yaml", "--data.benchmarks", "[]",
    "--data.rollout.num_phases", "3", "--data.rollout.prompts_per_phase", "4",
    "--evaluation.before_training", "false", "--samples.groups_per_phase", "null",
    "--checkpoint.every_n_phases", "3",
]  # fmt: skip
ROOT = Path(__file__).parents[2]


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
    """`luffy-pl ARGS`: the last line of what it said if it failed, else None."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [LUFFY_PL, *map(str, args)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def fit(model, run, *more):
    """Three phases; the largest difference of engine and trainer in nats, or what was said."""
    failed = command("fit", *RUN, "--model.policy.path", model, "--run_dir", run, *more)
    if failed:
        return failed
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return max(row["sync/logprob_gap_nats"] for row in rows if "sync/logprob_gap_nats" in row)


def numerics(family, **settings):
    """Largest differences in nats and in gradients, and the policy."""
    policy, own = Policy(tiny_model(family, **settings)).train(), own_model(family, **settings)
    return max(gap(policy, own, *case) for case in CASES), policy


def shared_prompt(policy):
    """Whether rows of a group compute their prompt once."""
    return "once" if policy.shares_prompts else "for each row"


def exported(run, folder):
    """Whether an export gives the trained weights back, by their logits."""
    failed = command("export", run, "--out", folder)
    if failed:
        return failed
    found = AutoModelForCausalLM.from_pretrained(folder)
    trained = policy_state((run / "checkpoints" / "last.ckpt").resolve())
    own = AutoModelForCausalLM.from_config(found.config)
    own.load_state_dict(trained, strict=False)
    ids_1L = torch.arange(20)[None]
    with torch.no_grad():
        same = torch.equal(found.eval()(ids_1L).logits, own.eval()(ids_1L).logits)
    return "the trained logits" if same else "wrong"


def row(family, folder):
    """The cells of a family."""
    try:
        worst, policy = numerics(family)
    except LuffyError as error:
        return [error.what, *["" for _ in COLUMNS[1:]]]
    model = model_folder(family, folder / "model")
    hf = ("--data.engine.kind", "hf")
    runs = {
        "hf fit": fit(model, folder / "hf", *hf),
        "vLLM fit": fit(model, folder / "vllm", "--data.engine.kind", "vllm"),
        "LoRA": fit(model, folder / "lora", *hf, "--config", "conf/hardware/lora.yaml"),
    }
    cells = {
        name: found if isinstance(found, str) else f"{found:.0e}" for name, found in runs.items()
    }
    return [
        f"{worst:.0e}",
        "packed" if policy.packs_rows else "padded",
        shared_prompt(policy),
        cells["hf fit"],
        cells["vLLM fit"],
        exported(folder / "hf", folder / "export"),
        cells["LoRA"],
    ]


if __name__ == "__main__":
    for family in sys.argv[1:] or TRAINED:
        with tempfile.TemporaryDirectory() as folder:
            print(family, *row(family, Path(folder)), sep=" | ", flush=True)  # noqa: T201
