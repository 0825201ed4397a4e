"""No family of causal language models is trained as something else than it is."""

import pytest
import torch
from policy.families import (
    BEGIN,
    CASES,
    END,
    PAGE,
    families,
    gradient_gap,
    judged,
    own_model,
    table,
    tiny_model,
)

from luffy_pl.policy.policy import Policy

PACKED = [
    "qwen2", "qwen3", "qwen3_moe", "llama", "mistral", "gemma2", "gemma3_text", "phi3", "olmo3",
    "granite", "granitemoe", "cohere2", "glm4", "smollm3", "gpt_oss", "qwen2_moe", "deepseek_v3",
]  # fmt: skip
# Linear attention, state space models, convolutions; learned positions that the model counts.
PADDED = ["qwen3_5_text", "qwen3_next", "granitemoehybrid", "mamba", "gptj"]
# Composite, without a library, or of sizes that follow from each other in a way of their own.
MOST_NOT_JUDGED = 14


@pytest.mark.parametrize("family", PACKED + PADDED)
def test_a_family_that_is_used(family):
    assert judged(family) == ("packed" if family in PACKED else "padded", "")


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("gemma2", torch.float64),
        # Through these large weights float32 rounds its gradients by up to 3e-4.
        ("qwen3_5_text", torch.float64),
        # Their layers take float32 alone.
        ("gpt_oss", torch.float32),
        ("granitemoehybrid", torch.float32),
    ],
)
def test_gradients_are_those_of_rows_alone(family, dtype):
    """A small cap, so that it bends every score."""
    settings = {"attn_logit_softcapping": 2.0} if family == "gemma2" else {}
    policy = Policy(tiny_model(family, **settings).to(dtype)).train()
    own = own_model(family, **settings).to(dtype)
    assert gradient_gap(policy, own, *CASES[3]) < 1e-4


@pytest.fixture(scope="module")
def verdicts():
    return {family: judged(family) for family in families()}


@pytest.mark.long
def test_none_is_wrong(verdicts):
    assert not {family: found for family, found in verdicts.items() if found[0] == "wrong"}
    not_judged = [family for family, found in verdicts.items() if found[0] == "not judged"]
    assert len(not_judged) <= MOST_NOT_JUDGED, not_judged


@pytest.mark.long
def test_the_page_says_so(verdicts):
    _, _, rest = PAGE.read_text().partition(BEGIN)
    assert rest.partition(END)[0].strip() == table(verdicts)
