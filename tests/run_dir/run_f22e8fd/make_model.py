"""Write `model/` and `prompts.jsonl` of the kept runs: a small model that solves some sums.

python make_model.py
"""

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from luffy_pl.bundled import resolve
from luffy_pl.miniature.tokenizer import build_tokenizer

HERE = Path(__file__).parent
NUM_PROMPTS, NUM_STEPS, LR = 12, 85, 1e-2


def main():
    lines = Path(resolve("bundled:shorter.jsonl")).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:NUM_PROMPTS]]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (HERE / "prompts.jsonl").write_text(text, encoding="utf-8")
    tokenizer = build_tokenizer()
    model = fresh_model(tokenizer)
    fit(model, encode(tokenizer, rows))
    model.save_pretrained(HERE / "model")
    tokenizer.save_pretrained(HERE / "model")


def fresh_model(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, dtype="float32",
        )
    )  # fmt: skip


def encode(tokenizer, rows):
    texts = [
        tokenizer.apply_chat_template([*row["prompt"], *row["target"]], tokenize=False)
        for row in rows
    ]
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def fit(model, batch):
    """Imitate the traces, and stop long before all are known by heart."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    for _ in range(NUM_STEPS):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
