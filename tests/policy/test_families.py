"""No family of causal language models is trained as something else than it is."""

import pytest
from policy.families import BEGIN, END, PAGE, families, judged, table

USED = [
    "qwen2", "qwen3", "qwen3_moe", "llama", "mistral", "gemma2", "gemma3_text", "phi3", "olmo3",
    "granite", "cohere2", "glm4", "smollm3", "gpt_oss", "qwen2_moe", "deepseek_v3",
]  # fmt: skip
# Attention with a soft cap or sinks.
REFUSED = {"gemma2", "gpt_oss"}
# Composite, without a library, or of sizes that follow from each other in a way of their own.
MOST_NOT_JUDGED = 14


@pytest.mark.parametrize("family", USED)
def test_a_family_that_is_used(family):
    verdict, reason = judged(family)
    assert verdict == ("refused" if family in REFUSED else "equal"), reason


@pytest.mark.parametrize("family", ["gemma2", "vaultgemma"])
def test_without_a_soft_cap_on_attention_it_is_taken(family):
    assert judged(family, attn_logit_softcapping=None, final_logit_softcapping=5.0)[0] == "equal"


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
