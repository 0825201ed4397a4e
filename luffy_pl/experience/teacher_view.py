"""The rows of a phase as a teacher sees them, where its prompts hold more than the policy's.

Shapes: N rows of the record, T predictions; n rows that the teacher sees, t predictions of theirs;
C taught tokens.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.experience.collate import candidates
from luffy_pl.objective.normalize import taught_mask
from luffy_pl.records import Experience, Group


@dataclass(frozen=True)
class TeacherView:
    """Taught rows under the teacher's prompts.

    cells_C: place of each taught token in the flattened [N, T] of the record.
    own_cells_C: its place in the flattened [n, t] of `rows`.
    """

    rows: Experience
    cells_C: Tensor
    own_cells_C: Tensor

    def in_place(self, own_nt: Tensor, experience: Experience) -> Tensor:
        """Values of `rows`, [n, t], where the record has the tokens, [N, T]; NaN elsewhere."""
        device = own_nt.device
        found_NT = own_nt.new_full(experience.response_mask_NT.shape, torch.nan)
        found_NT.view(-1)[self.cells_C.to(device)] = own_nt.view(-1)[self.own_cells_C.to(device)]
        return found_NT


def teacher_view(experience: Experience) -> TeacherView:
    """The taught rows; one row without a token to score if there are none."""
    host = experience.on_host
    assert host.teacher_prompts is not None
    taught_NT = taught_mask(host)
    chosen = taught_NT.any(dim=1).nonzero()[:, 0].tolist() or [0]
    prompts, rows, starts = [], [], []
    for row in chosen:
        own = host.groups[int(host.group_N[row])].prompt.token_ids
        prompts.append(host.teacher_prompts[row] or own)
        answer = host.token_ids_NL[row, len(own) : int(host.num_tokens_N[row])]
        rows.append((prompts[-1], tuple(answer.tolist())))
        starts.append(len(own))
    seen = candidates(rows, temperature=host.temperature)
    mask_nt = torch.zeros_like(seen.response_mask_NT)
    cells, own_cells = [], []
    for place, (row, prompt, start) in enumerate(zip(chosen, prompts, starts, strict=True)):
        position_c = taught_NT[row].nonzero()[:, 0]
        own_position_c = position_c + len(prompt) - start
        mask_nt[place, own_position_c] = True
        cells.append(row * taught_NT.shape[1] + position_c)
        own_cells.append(place * mask_nt.shape[1] + own_position_c)
    # Rows of a group that see the same share their prompt.
    keys: dict[tuple[int, tuple[int, ...]], int] = {}
    group_of = [
        keys.setdefault((int(host.group_N[row]), prompt), len(keys))
        for row, prompt in zip(chosen, prompts, strict=True)
    ]
    groups = tuple(
        Group(dataclasses.replace(host.groups[group].prompt, token_ids=prompt), (), ())
        for group, prompt in keys
    )
    seen = dataclasses.replace(
        seen, response_mask_NT=mask_nt, group_N=torch.tensor(group_of), groups=groups
    )
    return TeacherView(seen, torch.cat(cells), torch.cat(own_cells))
