"""How likely the model finds the traces: what shaping has to work with.

Shapes: N rows, L tokens, T = L - 1 predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from luffy_pl.corpus.check.rows import CheckedRow
from luffy_pl.data.seeds import keyed_order
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.records import ExpertTrace

PERCENTILES = (1, 5, 10, 25, 50, 75, 90)
RARE = 0.1
"""gamma of the paper's shaping p / (p + gamma): below it a token weighs less than half."""
NUM_LEAST = 5


@dataclass(frozen=True)
class Probabilities:
    """Over all tokens of the chosen traces, EOS included.

    Args:
        percentiles: percentile to probability.
        rare_share: share of tokens below RARE.
        mean_nats: mean of -log p.
        least: (`file:row`, mean of -log p in nats) of the least likely traces.
    """

    num_traces: int
    num_tokens: int
    percentiles: dict[str, float]
    rare_share: float
    mean_nats: float
    least: tuple[tuple[str, float], ...]


def trace_probabilities(
    rows: Sequence[CheckedRow], model_path: str, *, num_traces: int
) -> Probabilities | None:
    """Measure at most `num_traces` traces, chosen by a fixed seed; None if there are none."""
    pairs = [(row, trace) for row in rows for trace in row.traces if trace is not None]
    chosen = [pairs[i] for i in sorted(keyed_order(len(pairs), "checked traces")[:num_traces])]
    if not chosen:
        return None
    policy = load_policy(PolicyConfig(path=model_path), model_path).eval()
    of_trace = [policy_logprobs(policy, row.prompt_ids, trace) for row, trace in chosen]
    found = torch.cat(of_trace)
    shares = torch.tensor([percent / 100 for percent in PERCENTILES], dtype=found.dtype)
    percentiles = torch.quantile(found.exp(), shares).tolist()
    means = [
        (row.question.where, -values.mean().item())
        for (row, _), values in zip(chosen, of_trace, strict=True)
    ]
    return Probabilities(
        num_traces=len(chosen),
        num_tokens=len(found),
        percentiles={
            str(percent): value for percent, value in zip(PERCENTILES, percentiles, strict=True)
        },
        rare_share=(found < math.log(RARE)).double().mean().item(),
        mean_nats=-found.mean().item(),
        least=tuple(sorted(means, key=lambda pair: -pair[1])[:NUM_LEAST]),
    )


@torch.inference_mode()
def policy_logprobs(
    policy: torch.nn.Module, prompt_ids: Sequence[int], trace: ExpertTrace
) -> torch.Tensor:
    """Log-probability in nats of each token of the trace."""
    ids = [*prompt_ids, *trace.token_ids]
    mask_1T = torch.zeros(1, len(ids) - 1, dtype=torch.bool)
    mask_1T[0, len(prompt_ids) - 1 :] = True
    logprob_1T, _ = policy(torch.tensor([ids]), mask_1T, num_tokens=[len(ids)], temperature=1.0)
    return logprob_1T[mask_1T].double()
