"""How often a base answers right, sampled at temperature 1, by the help in its prompt.

python experiments/reader/measure.py experiments/reader/never
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.bundled import resolve
from luffy_pl.guidance.hints import beginning
from luffy_pl.miniature.tokenizer import ASSISTANT, EOS, USER, build_tokenizer
from luffy_pl.miniature.world import THINK

NUM_PROBLEMS, ANSWERS, MAX_TOKENS = 128, 2, 48
Help = Callable[[str, str], str]
"""From a trace and a gold answer to the text behind the question."""


def failure(trace: str) -> str:
    """The trace given up after its first step."""
    [step, value] = re.match(r"([a-z]+\d+[+-]\d=(\d+))", trace).groups()
    return f"{step}</think>\\boxed{{{value}}}"


HELP: dict[str, Help] = {
    "nothing": lambda trace, gold: "",
    "a quarter of a solution": lambda trace, gold: beginning(trace, 0.25),
    "half of it": lambda trace, gold: beginning(trace, 0.5),
    "three quarters": lambda trace, gold: beginning(trace, 0.75),
    "a whole solution": lambda trace, gold: THINK + trace,
    "the gold answer": lambda trace, gold: gold,
    "a wrong answer, and the gold": lambda trace, gold: failure(trace) + gold,
}


@torch.inference_mode()
def share_right(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str], golds: list[str]
) -> float:
    """Share of sampled answers that box the gold and end."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch.pop("token_type_ids", None)
    token_ids_NL = model.generate(**batch, do_sample=True, top_k=0, max_new_tokens=MAX_TOKENS)
    answers = tokenizer.batch_decode(token_ids_NL[:, batch["input_ids"].shape[1] :])
    ends = (f"</think>\\boxed{{{gold}}}{EOS}" for gold in golds)
    return sum(end in answer for end, answer in zip(ends, answers, strict=True)) / len(golds)


def main(path: str) -> None:
    """One line for each kind of help."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = Path(resolve("bundled:train.jsonl")).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:NUM_PROBLEMS] for _ in range(ANSWERS)]
    model = AutoModelForCausalLM.from_pretrained(resolve(path)).eval()
    tokenizer = build_tokenizer()
    tokenizer.padding_side = "left"
    golds = [row["reward_model"]["ground_truth"] for row in rows]
    for name, help_of in HELP.items():
        prompts = [
            f"{USER}{row['prompt'][0]['content']}"
            f"{help_of(row['target'][0]['content'].removeprefix(THINK), gold)}{ASSISTANT}{THINK}"
            for row, gold in zip(rows, golds, strict=True)
        ]
        share = share_right(model, tokenizer, prompts, golds)
        sys.stdout.write(f"{name}: {100 * share:.0f}%\n")


if __name__ == "__main__":
    main(sys.argv[1])
