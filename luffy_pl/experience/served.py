"""What models on servers say of a phase's tokens, asked while the phase is collected.

Shapes: N rows of the record, T predictions; n rows that a server is asked about, t predictions of
theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from luffy_pl.data.chat import Tokenizer
from luffy_pl.data.prompts import PromptSet
from luffy_pl.errors import ConfigError
from luffy_pl.experience.policy_view import ScoredBy
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.experience.teacher_view import teacher_view
from luffy_pl.objective.normalize import taught_mask
from luffy_pl.records import Experience, Progress
from luffy_pl.rollout.scoring_server import ScoringServer, ServedModel


def reach_servers(
    configs: Mapping[str, ServedModel],
    tokenizer: Tokenizer,
    prompts: PromptSet,
    rollout: RolloutConfig,
    *,
    max_model_len: int | None,
    report: Callable[[str], None],
) -> dict[str, ScoringServer]:
    """The servers of `model.frozen` by name, compared with the run before anything is sampled.

    Args:
        max_model_len: tokens of prompt and answer that the engine takes.
        report: says a line.

    Raises:
        EngineError, ModelError, ConfigError: one is not there, reads other tokens, or shorter rows.
    """
    found = {name: ScoringServer(name, config) for name, config in configs.items()}
    probe = prompts.prompts[0]
    vocabulary = sorted(tokenizer.get_vocab().values())
    longest = longest_of_run(prompts, rollout, max_model_len)
    for server in found.values():
        if longest > server.window:
            raise ConfigError(
                f"{server.where}.url",
                f"{server.model} takes rows of {server.window} tokens there, and the longest of "
                f"the run has {longest}",
                fix=f"start it with --max-model-len {longest + 1}",
            )
        server.check_tokenizer(
            vocabulary,
            lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False)),
            (probe.text, probe.token_ids),
        )
        report(f"{server}; its FLOPs are not in ledger/model_flops")
    return found


def longest_of_run(prompts: PromptSet, rollout: RolloutConfig, max_model_len: int | None) -> int:
    """Tokens of the longest row that a phase can have; a hint makes prompts longer."""
    plain = max(len(prompt.token_ids) for prompt in prompts.prompts) + rollout.max_response_tokens
    if max_model_len is None:
        return plain
    return max_model_len if rollout.guidance is not None else min(plain, max_model_len)


def scored_by_servers(
    experience: Experience,
    names: Mapping[ScoredBy, str],
    servers: Mapping[str, ScoringServer],
    on_progress: Progress,
) -> Experience:
    """The record with the log-probabilities of the reference and of the teacher that are served.

    Args:
        names: of the models that the phase needs.
    """
    reference_NT = teacher_NT = None
    if "reference" in names:
        reference_NT = scored(servers[names["reference"]], experience, on_progress)
    if "teacher" in names:
        teacher_NT = taught(servers[names["teacher"]], experience, on_progress)
    return dataclasses.replace(
        experience, reference_logprob_NT=reference_NT, teacher_logprob_NT=teacher_NT
    )


def taught(server: ScoringServer, experience: Experience, on_progress: Progress) -> Tensor:
    """Log-probability of taught tokens under what the teacher sees, [N, T]."""
    if experience.teacher_prompts is None:
        rows = dataclasses.replace(experience, response_mask_NT=taught_mask(experience))
        return scored(server, rows, on_progress)
    view = teacher_view(experience)
    return view.in_place(scored(server, view.rows, on_progress), experience)


def scored(server: ScoringServer, rows: Experience, on_progress: Progress) -> Tensor:
    """Log-probability of the tokens in the mask of a record, [n, t]; 0 of all others."""
    found_nt = torch.zeros(rows.response_mask_NT.shape)
    asked = rows.response_mask_NT.any(dim=1).nonzero()[:, 0].tolist()
    lengths = rows.num_tokens_N.tolist()
    ids = [rows.token_ids_NL[row, : lengths[row]].tolist() for row in asked]
    for row, logprobs in zip(asked, server.logprobs(ids, on_progress=on_progress), strict=True):
        found_nt[row, : len(logprobs)] = torch.tensor(logprobs)
    return found_nt.masked_fill(~rows.response_mask_NT, 0.0)
