"""The estimate of a run's memory beside what the kernel says it took."""

import json

import pytest
from estimate_plans import a_plan
from transformers import Qwen2Config

from luffy_pl.estimate.memory import training_parts
from luffy_pl.estimate.plan import read_shape

pytestmark = pytest.mark.slow

MIB = 2**20


def peak_mib(luffy_pl, **options):
    """Of two steps of `luffy-pl bench learner`, and the tokens of one."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = luffy_pl("bench", "learner", "--steps", "1", "--prompts", "1", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    return found["peak_rss_mib"], found["real_tokens"]


@pytest.mark.parametrize(
    ("vocab", "hidden", "layers"),
    [(2000, 128, 24), (60_000, 256, 2)],
    ids=["activations", "weights and head"],
)
def test_within_15_percent(luffy_pl, vocab, hidden, layers):
    longest = {"max-len": 512 if layers > 2 else 64}
    process, _ = peak_mib(luffy_pl, vocab=50, hidden=32, layers=1, **{"max-len": 16})
    measured, tokens = peak_mib(luffy_pl, vocab=vocab, hidden=hidden, layers=layers, **longest)
    config = Qwen2Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    shape = read_shape(config, compute_bytes=4)
    plan = a_plan(is_gpu=False, compute_bytes=4, recomputes=False, micro_batch_tokens=tokens)
    estimated = process + sum(training_parts(shape, plan).values()) / MIB
    assert measured > 1.4 * process  # else it says nothing about the estimate
    assert estimated == pytest.approx(measured, rel=0.15)
