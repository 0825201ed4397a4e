"""A policy that computes something else than its model is refused, with the reason."""

import logging

import pytest
import torch
from policy.families import CASES, gap, tiny_model

from luffy_pl.attention import blocks, packed
from luffy_pl.errors import ModelError
from luffy_pl.policy import self_check
from luffy_pl.policy.policy import Policy


def test_a_window_that_only_the_mask_knows_is_kept():
    policy = Policy(tiny_model("qwen2_moe"))
    assert policy.windows == {16}
    assert gap(policy, tiny_model("qwen2_moe"), *CASES[3]) < 1e-4


@pytest.fixture
def said(caplog):
    """Why a policy does not pack rows."""

    def of(model):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="luffy_pl.policy.policy"):
            policy = Policy(model)
        assert not policy.packs_rows
        [line] = [record.getMessage() for record in caplog.records if "side by side" in record.msg]
        assert "\n" not in line
        return line

    return of


@pytest.mark.parametrize(
    "family", ["recurrent_gemma", "bart", "mbart", "pegasus", "marian", "blenderbot"]
)
def test_rows_that_would_reach_into_the_next_go_side_by_side(said, family):
    assert "a row reaches into the next one" in said(tiny_model(family))


def test_layers_of_another_kind_are_named(said):
    assert "mixing packed rows (linear_attention)" in said(tiny_model("qwen3_5_text"))


def test_a_lost_window_is_named(said, monkeypatch):
    monkeypatch.setattr(packed.RowMask, "band", lambda *_: None)
    assert "the window of its attention, 16 tokens, is not kept" in said(tiny_model("mistral"))


def test_a_token_that_sees_those_behind_it_is_refused(monkeypatch):
    model = tiny_model("mamba")
    mixer = model.backbone.layers[0].mixer
    plain = mixer.forward
    monkeypatch.setattr(mixer, "forward", lambda x, **kwargs: plain(x, **kwargs) + x.mean(1, True))
    with pytest.raises(ModelError, match="padded rows are off by") as found:
        Policy(model)
    assert found.value.exit_code == 4


def test_a_lost_transform_is_named(monkeypatch):
    monkeypatch.setattr("luffy_pl.policy.logits.LogitTransform.apply_", lambda self, z: z)
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    with pytest.raises(ModelError, match="positions, masks or logits are not those"):
        Policy(tiny_model("granite", logits_scaling=8.0))


def test_shared_tokens_that_are_mixed_up_are_named(said, monkeypatch):
    inner = blocks.starts

    def shifted(packed):
        start_N, lead_N = inner(packed)
        return start_N, lead_N + 1

    monkeypatch.setattr(blocks, "starts", shifted)
    assert "a beginning that rows share" in said(tiny_model("llama"))


def test_nothing_is_drawn_and_nothing_stays():
    model = tiny_model("gpt2").train()
    before = torch.random.get_rng_state()
    policy = Policy(model)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(weight.grad is None for weight in policy.parameters())
    assert not any(weight.is_inference() for weight in [*policy.parameters(), *policy.buffers()])
    assert "forward" not in vars(model.get_output_embeddings())


@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_is_off_and_said(caplog, recompute):
    model = tiny_model("gpt2")
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    with caplog.at_level(logging.WARNING, logger="luffy_pl.policy.policy"):
        policy = Policy(model).train()
    assert [record.getMessage() for record in caplog.records] == [
        "model.policy: the model's dropout is off (resid_pdrop, embd_pdrop, attn_pdrop, "
        "summary_first_dropout)"
    ]
    assert gap(policy, tiny_model("gpt2"), *CASES[2]) < 1e-4


def test_a_recomputed_layer_drops_nothing_by_itself():
    """Its own mode is that of training, and OPT's layers call dropout as a function."""
    model = tiny_model("opt", dropout=0.5)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = Policy(model).train()
    assert gap(policy, tiny_model("opt"), *CASES[2]) < 1e-4


def test_a_recomputed_layer_has_the_gradient_of_a_kept_one():
    """Recomputed in the backward pass, when no packing is current any more."""
    gradients = []
    for recompute in (False, True):
        model = tiny_model("qwen2_moe")
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        policy = Policy(model).train()
        assert model.model.layers[0].training is recompute
        ids_NL = torch.randint(3, 90, (2, 30), generator=torch.Generator().manual_seed(0))
        mask_NT = torch.ones(2, 29, dtype=torch.bool)
        found_NT, _ = policy(ids_NL, mask_NT, num_tokens=(30, 30), temperature=1.0)
        found_NT.sum().backward()
        gradients.append([weight.grad for weight in policy.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


ROPE = {"rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", **ROPE},
        {
            "rope_type": "longrope",
            "original_max_position_embeddings": 32,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            **ROPE,
        },
    ],
    ids=["dynamic", "longrope"],
)
def test_rows_beyond_which_rotary_frequencies_change_are_refused(rope):
    policy = Policy(tiny_model("llama", rope_parameters=rope, max_position_embeddings=32))
    ids_NL, mask_NT = torch.full((2, 33), 5), torch.arange(32).expand(2, -1) < 19
    of_rows = {"num_tokens": (32, 20), "temperature": 1.0}
    policy(ids_NL, mask_NT, **of_rows)
    with pytest.raises(ModelError, match="change beyond 32 tokens"):
        policy(ids_NL, mask_NT, **of_rows | {"num_tokens": (33, 20)})


@pytest.mark.parametrize("unlucky", [[0], [0, 1]])
def test_tokens_are_taken_twice_before_rows_are_not_packed(said, monkeypatch, unlucky):
    """Rounding that sends a token to another expert is seen with some tokens alone."""
    model = tiny_model("llama")
    drawn = [self_check.two_rows(model, (), seed)[0] for seed in unlucky]
    plain = self_check.SelfCheck.alone

    def alone(self, row):
        is_unlucky = any(torch.equal(self.token_ids_NL, ids_NL) for ids_NL in drawn)
        return plain(self, row) + is_unlucky

    monkeypatch.setattr(self_check.SelfCheck, "alone", alone)
    if unlucky == list(self_check.SEEDS):
        assert "packed rows are off by 1 nats" in said(model)
    else:
        assert Policy(model).gap_nats < 1e-4


def test_rows_are_longer_than_a_window_and_no_longer_than_they_must_be():
    model = tiny_model("llama")
    for windows, length in ((), 24), ({16}, 32), ({40, 4096}, 56), ({4096}, 256):
        ids_2L, num_tokens, (_, shared) = self_check.two_rows(model, windows, 0)
        assert num_tokens == (length, length - 3)
        assert torch.equal(ids_2L[0, :shared], ids_2L[1, :shared])
        assert not torch.equal(ids_2L[0, shared:], ids_2L[1, shared:])
