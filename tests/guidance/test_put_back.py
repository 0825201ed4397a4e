"""What the engine says of rows under a hint is what the trainer computes under that hint."""

import pytest
import torch

from luffy_pl.bundled import resolve
from luffy_pl.data.source import PromptSource
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.settings import GuidanceConfig
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.rollout.engine import EngineConfig


@pytest.fixture
def record():
    """A phase of two groups of which two rows are put back, sampled at temperature 0.7."""
    template = "<book>{question}{hint}"
    data = LuffyDataModule(
        "bundled:base",
        PromptSource(path="bundled:train.jsonl", limit=8, hint_template=template),
        rollout=RolloutConfig(
            num_phases=1, prompts_per_phase=2, group_size=3, expert_traces_per_group=0,
            max_response_tokens=48, temperature=0.7,
            guidance=GuidanceConfig(put_back="plain", rows=2),
        ),
        engine=EngineConfig(kind="hf", max_model_len=96),
    )  # fmt: skip
    data.setup("fit")
    data.engine.policy_version = 0
    yield data.collect(0)
    data.teardown("fit")


def test_the_recorded_log_probability_is_that_under_the_hint(record):
    policy = load_policy(PolicyConfig("bundled:base"), resolve("bundled:base"))
    rows = [row for group in record.groups for row in group.responses if row.source == "hinted"]
    assert len(rows) == 4

    def logprobs(prompt, row):
        ids_1L = torch.tensor([prompt + row.token_ids])
        mask_1T = torch.arange(ids_1L.shape[1] - 1)[None] >= len(prompt) - 1
        found_1T, _ = policy(ids_1L, mask_1T, num_tokens=[ids_1L.shape[1]], temperature=0.7)
        return found_1T[0, len(prompt) - 1 :]

    for number, row in enumerate(row for group in record.groups for row in group.responses):
        if row.source != "hinted":
            continue
        recorded = record.behaviour_logprob_NT[number][record.off_policy_mask_NT[number]]
        under_hint = logprobs(row.hint.prompt.token_ids, row)
        torch.testing.assert_close(recorded, under_hint, rtol=0, atol=1e-4)
        plain = logprobs(record.groups[number // 3].prompt.token_ids, row)
        assert (recorded - plain).abs().max() > 0.1
