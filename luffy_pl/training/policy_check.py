"""The comparison of a policy with its model (`policy/self_check.py`) where a run makes it.

Every policy is compared when it is built, on the CPU and before it is sharded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from luffy_pl.bundled import resolve
from luffy_pl.policy.policy import Policy, load_policy
from luffy_pl.policy.rotary import check_lengths
from luffy_pl.policy.settings import PolicyConfig

if TYPE_CHECKING:
    from luffy_pl.experience.datamodule import LuffyDataModule


def check_here(policy: Policy, *, device: torch.device, precision: str) -> None:
    """Compare again where the run computes in another way than when the policy was built.

    Args:
        precision: Lightning's name for it.
    """
    if device.type != "cpu" or precision != "32-true":
        policy.check()


def check_rows(policy: Policy, data: LuffyDataModule) -> None:
    """Refuse a run whose rows may become longer than the model takes."""
    if data.prompts is not None:
        longest = max(len(prompt.token_ids) for prompt in data.prompts.prompts)
        check_lengths([longest + data.rollout.max_response_tokens], policy.longest_row)


def build_here(config: PolicyConfig) -> Policy:
    """The policy of a run on this machine's CPU, compared with its model."""
    # Flash attention would need the run's GPU.
    return load_policy(replace(config, attention="sdpa"), resolve(config.path))
