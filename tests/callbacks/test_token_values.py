"""What is written of each token: its place in the text, its probability, its weight."""

import json
import math

import pytest
from recipes.small_runs import SMALL
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from luffy_pl.callbacks.token_values import token_characters

BYTES = {character: number for number, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}


@pytest.fixture(scope="module")
def tokenizer():
    """A token for each byte of UTF-8."""
    backend = Tokenizer(models.BPE(vocab=BYTES, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def test_a_character_belongs_to_the_token_that_ends_it(tokenizer):
    token_ids = ids(tokenizer, "aé😀b")
    assert len(token_ids) == 1 + 2 + 4 + 1
    assert token_characters(tokenizer, token_ids, "aé😀b") == [1, 0, 1, 0, 0, 0, 1, 1]


def test_an_end_within_a_character(tokenizer):
    token_ids = ids(tokenizer, "aé")[:-1]
    text = tokenizer.decode(token_ids)
    assert text == "a\N{REPLACEMENT CHARACTER}"
    assert token_characters(tokenizer, token_ids, text) == [1, 1]


def test_the_end_of_the_turn_is_no_text(tokenizer):
    assert token_characters(tokenizer, ids(tokenizer, "ab<eos>"), "ab") == [1, 1, 0, 0, 0, 0, 0]


def test_tokens_that_do_not_spell_the_text(tokenizer):
    assert token_characters(tokenizer, ids(tokenizer, "ab"), "ba") is None
    assert token_characters(tokenizer, [], "") is None
    assert token_characters(object(), [1], "a") is None


@pytest.fixture
def train(command_line, tmp_path):
    def run(*args):
        done = command_line("fit", "--config", "conf/quickstart.yaml", *args, *SMALL,
                            "--data.rollout.num_phases", "1", "--run_dir", tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "rollouts" / "phase-000001.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    return run


def test_values_of_a_run_are_those_of_its_loss(train):
    rows = train()
    assert {row["source"] for row in rows} == {"rollout", "expert"}
    for row in rows:
        assert sum(row["token_characters"]) == len(row["response"])
        assert len(row["logprobs"]) == len(row["weights"]) == row["tokens"]
        if row["source"] == "expert":  # p / (p + 0.1)
            for logprob, weight in zip(row["logprobs"], row["weights"], strict=True):
                probability = math.exp(logprob)
                assert weight == pytest.approx(probability / (probability + 0.1), abs=2e-4)
    # Minibatch 0 is trained on by the policy that sampled it: ratio 1. It has half of the groups.
    first = [row for row in rows[: len(rows) // 2] if row["source"] == "rollout"]
    assert {weight for row in first for weight in row["weights"]} == {1.0}
    given = [row["logprobs"] for row in rows if row["source"] == "expert"]
    assert min(min(logprobs) for logprobs in given) < -1  # the expert's step that the base lacks


def test_imitated_tokens_have_no_weight(train):
    rows = train("--config", "conf/recipe/rl_with_sft_loss.yaml")
    weights = {row["source"]: row["weights"] for row in rows}
    assert set(weights["expert"]) == {None}
    assert None not in weights["rollout"]


def test_values_can_be_left_out(train):
    [row, *_] = train("--samples.token_values", "false")
    assert "advantage" in row
    assert not {"token_characters", "logprobs", "weights"} & set(row)
