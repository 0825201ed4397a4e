r"""Micro-batches that a rank makes with nothing in them, because another rank has more tokens.

    python experiments/learner/padding.py

Phases as in conf/luffy.yaml: 128 prompts with 7 answers and a trace each, two optimizer steps,
micro-batches of 32,768 tokens. Lengths are drawn: every prompt has a difficulty of its own, and its
answers are spread around it. `drawn`: prompts lie on ranks as they were drawn. `unequal`: each rank
has prompts of about the same difficulty, the worst case. By place: a rank trains what it collected.
Dealt: luffy_pl/training/dealing.py. The wait is the share of time that ranks have no tokens to
compute, if time is that of tokens and all ranks wait for each other after each micro-batch.
"""

from __future__ import annotations

import random
import sys

from luffy_pl.training.dealing import RowSize, deal, num_computed
from luffy_pl.training.micro_batches import micro_batch_rows

PHASES, PROMPTS, ROWS, STEPS, BUDGET = 8, 128, 8, 2, 32768
PROMPT_TOKENS, LONGEST = 160, 8192


def main() -> None:
    """Print a line for each number of ranks and order."""
    sys.stdout.write(
        f"{'ranks':>5} {'prompts':<8} {'empty, by place':>16} {'dealt':>7} "
        f"{'wait, by place':>15} {'dealt':>7}\n"
    )
    for ranks in (2, 4, 8, 16):
        for order in ("drawn", "unequal"):
            shares = [
                share(hands)
                for dealt in (False, True)
                for hands in [steps(ranks, order, dealt=dealt)]
            ]
            (empty, wait), (empty_dealt, wait_dealt) = shares
            sys.stdout.write(
                f"{ranks:5} {order:<8} {empty:16.1%} {empty_dealt:7.1%} "
                f"{wait:15.1%} {wait_dealt:7.1%}\n"
            )


def steps(ranks: int, order: str, *, dealt: bool) -> list[list[list[list[RowSize]]]]:
    """For each optimizer step, the micro-batches of each rank."""
    found = []
    for phase in range(PHASES):
        rows = phase_rows(phase, ranks, order)
        for step in range(STEPS):
            own = [row for row in rows if row.step == step]
            if dealt:
                found.append(deal(own, num_ranks=ranks, token_budget=BUDGET))
            else:
                parts = [[row for row in own if row.owner == rank] for rank in range(ranks)]
                found.append([by_place(part) for part in parts])
    return found


def by_place(rows: list[RowSize]) -> list[list[RowSize]]:
    """Micro-batches of what a rank collected, the largest first."""
    cut = micro_batch_rows(
        [row.num_tokens for row in rows],
        token_budget=BUDGET,
        group=[row.group for row in rows],
        num_prompt=[row.num_prompt for row in rows],
    )
    batches = [[rows[index] for index in batch] for batch in cut]
    return sorted(batches, key=num_computed, reverse=True)


def phase_rows(phase: int, ranks: int, order: str) -> list[RowSize]:
    """Rows of all ranks; lengths in tokens."""
    draw = random.Random(phase)
    lengths = []
    for _ in range(PROMPTS):
        middle = draw.lognormvariate(7.6, 0.6)
        answers = [middle * draw.lognormvariate(0.0, 0.5) for _ in range(ROWS)]
        lengths.append([PROMPT_TOKENS + min(LONGEST, max(20, int(one))) for one in answers])
    if order == "unequal":
        lengths.sort(key=sum)
    per_rank = PROMPTS // ranks
    return [
        RowSize(
            owner=prompt // per_rank,
            place=(prompt % per_rank) * ROWS + number,
            step=(prompt % per_rank) * STEPS // per_rank,
            group=prompt % per_rank,
            num_tokens=length,
            num_prompt=PROMPT_TOKENS,
        )
        for prompt, row in enumerate(lengths)
        for number, length in enumerate(row)
    ]


def share(hands_of_steps: list[list[list[list[RowSize]]]]) -> tuple[float, float]:
    """Shares of empty micro-batches, and of tokens' time that is waited for."""
    made = full = time = used = 0
    for hands in hands_of_steps:
        turns = max(map(len, hands))
        made += turns * len(hands)
        full += sum(map(len, hands))
        sizes = [[num_computed(hand[t]) if t < len(hand) else 0 for hand in hands]
                 for t in range(turns)]  # fmt: skip
        time += sum(max(turn) * len(hands) for turn in sizes)
        used += sum(map(sum, sizes))
    return 1 - full / made, 1 - used / time


if __name__ == "__main__":
    main()
