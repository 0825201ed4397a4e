"""Exploration: the policy's token entropy on its own rollouts and on expert traces, apart."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, pair
from luffy_pl.errors import ConfigError
from luffy_pl.records import Experience
from luffy_pl.training.module import LuffyModule


class EntropyMonitor(L.Callback):
    """Logs mean token entropy in nats.

    entropy/rollout_nats, entropy/expert_nats: over rollout and expert tokens.
    actor/entropy_loss: over both, as the released code logs it.
    entropy/<name>_nats: over the rollout tokens of a watched group. Longer answers hold more of
        some tokens than short ones, and the mean over all tokens moves by that alone.

    Args:
        watched: name to token strings, each of which must be one token.
    """

    def __init__(self, watched: dict[str, list[str]] | None = None) -> None:
        self.watched = watched or {}
        self.watched_ids: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Look the watched tokens up."""
        for name, tokens in self.watched.items():
            ids = [trainer.datamodule.tokenizer.convert_tokens_to_ids(token) for token in tokens]
            unknown = trainer.datamodule.tokenizer.unk_token_id
            if None in ids or (unknown is not None and unknown in ids):
                raise ConfigError(
                    f"entropy.watched.{name}",
                    "holds a string that is not one token of this tokenizer",
                    value=tokens,
                    fix="list single tokens as the tokenizer spells them",
                )
            self.watched_ids[name] = torch.tensor(ids, device=module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """One line of metrics per phase."""
        entropy_NT, mask_NT = outputs["entropy_NT"], batch.response_mask_NT
        own_NT = mask_NT & ~batch.off_policy_mask_NT
        pairs = {
            "actor/entropy_loss": pair(entropy_NT, mask_NT),
            "entropy/rollout_nats": pair(entropy_NT, own_NT),
            "entropy/expert_nats": pair(entropy_NT, batch.off_policy_mask_NT),
        }
        for name, ids in self.watched_ids.items():
            is_watched_NT = torch.isin(batch.token_ids_NL[:, 1:], ids)
            pairs[f"entropy/{name}_nats"] = pair(entropy_NT, own_NT & is_watched_NT)
        log_phase(trainer, mean_over_ranks(trainer, pairs), phase=module.phases_trained)
