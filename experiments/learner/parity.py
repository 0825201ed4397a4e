r"""One step's loss and gradient beside TRL's GRPOTrainer, on the same completions.

    python experiments/learner/parity.py --python PYTHON_WITH_TRL [--peer STEP.py]

Each case is a loss type of TRL, with rows in one micro-batch or in four, and with the rows that ran
into the length limit kept or masked. A random Qwen2, four prompts, eight completions of each. The
peer is a script that takes a folder with `model/`, `cases.json` and `rows.json`, and writes for
each case `<number>.safetensors` with the gradient of every weight and the loss.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from random_model import write_random_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from luffy_pl.bench.learner import backward_step
from luffy_pl.bench.workload import make_groups
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.objective.gate import PpoClip
from luffy_pl.objective.settings import NormalizerConfig, ObjectiveConfig, OnPolicyConfig
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Group

PEER = Path(__file__).with_name("trl_step.py")
SIZES = {"vocab": 500, "prompts": 4, "prompt_len": 16, "max_len": 96, "seed": 0}
TRUNCATED = 3
"""Every so many-th row does not end."""
MODES = {"grpo": "sequence", "dr_grpo": "constant", "dapo": "token", "bnpo": "token"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A step: loss type of TRL, its micro-batches, and whether truncated rows are masked.

    scale: what a group's centred rewards are divided by: `none`, or `group` for the deviation.
    """

    loss_type: str
    micro_batches: int
    masks_truncated: bool
    scale: str = "none"


CASES = [
    *(
        Case(loss_type, micro_batches, masks)
        for loss_type in MODES
        for micro_batches in (1, 4)
        for masks in (False, True)
    ),
    Case("grpo", 1, False, scale="group"),
]


def rows_of_step() -> list[Group]:
    """Groups whose every third row ran into the length limit."""
    groups, number = [], 0
    for group in make_groups(argparse.Namespace(**SIZES)):
        responses = []
        for response in group.responses:
            number += 1
            if number % TRUNCATED == 0:
                response = dataclasses.replace(
                    response, token_ids=(*response.token_ids[:-1], 5), finish_reason="length"
                )
            responses.append(response)
        groups.append(dataclasses.replace(group, responses=tuple(responses)))
    return groups


def own_step(model: Path, groups: list[Group], case: Case) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient by name, of luffy-pl."""
    num_rows = sum(len(group.responses) for group in groups)
    longest = SIZES["prompt_len"] + SIZES["max_len"]
    policy = Policy(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)).train()
    done = backward_step(
        policy,
        groups,
        objective=ObjectiveConfig(
            on_policy=OnPolicyConfig(gate=PpoClip()),
            normalizer=NormalizerConfig(
                mode=MODES[case.loss_type],
                # TRL divides by all rows, a masked one too.
                rows=num_rows,
                constant_tokens=SIZES["max_len"],
            ),
        ),
        advantage=GroupAdvantage(
            scale="group_std" if case.scale == "group" else "none",
            truncated="mask" if case.masks_truncated else "keep",
        ),
        token_budget=longest * num_rows // case.micro_batches,
    )
    gradient = {name: weight.grad for name, weight in policy.language_model.named_parameters()}
    return done.losses.sum().item(), gradient


def write_step(folder: Path, groups: list[Group]) -> None:
    """What the peer reads."""
    rows = [
        {"prompt": group.prompt.token_ids, "completion": row.token_ids, "reward": reward}
        for group in groups
        for row, reward in zip(group.responses, group.rewards, strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    cases = [{**dataclasses.asdict(case), "max_tokens": SIZES["max_len"]} for case in CASES]
    (folder / "cases.json").write_text(json.dumps(cases))


def compared(
    own: tuple[float, Mapping[str, Tensor]], peer: Mapping[str, Tensor]
) -> dict[str, float]:
    """Both losses, norms of the gradients, and the norm of their difference beside the peer's."""
    loss, gradient = own
    pairs = [(gradient[name], peer[name]) for name in gradient]
    of_own, of_peer, between = (
        torch.stack([one.double().norm() for one in values]).norm().item()
        for values in zip(*((a, b, a - b) for a, b in pairs), strict=True)
    )
    return {
        "loss": loss,
        "peer_loss": peer["loss"].item(),
        "norm": of_own,
        "peer_norm": of_peer,
        "difference": between / of_peer,
    }


def lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """The table, in Markdown."""
    columns = (
        "TRL's loss", "advantage", "micro-batches", "truncated rows", "loss", "TRL's",
        "gradient off by",
    )  # fmt: skip
    yield f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    for case, one in zip(CASES, found, strict=True):
        rows = "masked" if case.masks_truncated else "kept"
        scale = "centred" if case.scale == "none" else "over the deviation"
        yield (
            f"| {case.loss_type} | {scale} | {case.micro_batches} | {rows} | {one['loss']:.6f} "
            f"| {one['peer_loss']:.6f} | {one['difference']:.1e} |\n"
        )


def main() -> None:
    """Make every step on both sides and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=str(PEER), help="script of the other trainer")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has its package")
    args = parser.parse_args()
    torch.set_num_threads(1)
    groups = rows_of_step()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_model(folder / "model", vocab=SIZES["vocab"], mean_tokens=SIZES["max_len"])
        write_step(folder, groups)
        subprocess.run([args.python, args.peer, name], check=True, stdout=sys.stderr)
        found = [
            compared(
                own_step(folder / "model", groups, case),
                load_file(folder / f"{number}.safetensors"),
            )
            for number, case in enumerate(CASES)
        ]
    sys.stdout.writelines(lines(found))


if __name__ == "__main__":
    main()
