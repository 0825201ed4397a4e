"""One optimizer step of TRL's GRPOTrainer for each case of a folder: the peer of `parity.py`.

    PYTHON_WITH_TRL experiments/learner/trl_step.py FOLDER

Reads `model/`, `rows.json` and `cases.json`, writes `<number>.safetensors` for each case. It
imports nothing of luffy-pl.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

GROUP = 8


class Recording(GRPOTrainer):
    """Adds up the losses of the micro-batches, as the step adds up their gradients."""

    total = 0.0

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        """The loss of a micro-batch."""
        loss = super().compute_loss(*args, **options)
        self.total += loss.item()
        return loss


class Gradient(TrainerCallback):
    """Keeps the gradient that the optimizer is about to use; nothing is clipped."""

    def on_pre_optimizer_step(self, *args: Any, model: Any = None, **options: Any) -> None:
        """Copy it."""
        self.found = {name: weight.grad.clone() for name, weight in model.named_parameters()}


def step(folder: Path, rows: list[dict[str, Any]], case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Gradient by name, and the loss."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    prompts = [" ".join(f"t{token}" for token in row["prompt"]) for row in rows]
    ids = {text: row["prompt"] for text, row in zip(prompts, rows, strict=True)}
    reward_of = {tuple(row["completion"]): row["reward"] for row in rows}
    completions = [row["completion"] for row in rows]

    def rollout(texts: list[str], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [ids[text] for text in texts],
            "completion_ids": completions[: len(texts)],
            "logprobs": None,
        }

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [reward_of[tuple(tokens)] for tokens in completion_ids]

    count = case["micro_batches"]
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False,
        per_device_train_batch_size=len(rows) // count, gradient_accumulation_steps=count,
        steps_per_generation=count, num_generations=GROUP, max_completion_length=case["max_tokens"],
        loss_type=case["loss_type"], mask_truncated_completions=case["masks_truncated"],
        scale_rewards=case["scale"], beta=0.0, temperature=1.0, max_grad_norm=0.0, max_steps=1,
        learning_rate=1e-6, save_strategy="no", report_to=[], disable_tqdm=True,
        shuffle_dataset=False, dataloader_pin_memory=False,
    )  # fmt: skip
    gradient = Gradient()
    trainer = Recording(
        model=model, reward_funcs=reward, args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": list(dict.fromkeys(prompts))}),
        rollout_func=rollout, callbacks=[gradient],
    )  # fmt: skip
    trainer.train()
    return {**gradient.found, "loss": torch.tensor(trainer.total, dtype=torch.double)}


def main() -> None:
    """Every case of the folder."""
    folder = Path(sys.argv[1])
    rows = json.loads((folder / "rows.json").read_text())
    torch.set_num_threads(1)
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        save_file(step(folder, rows, case), folder / f"{number}.safetensors")


if __name__ == "__main__":
    main()
