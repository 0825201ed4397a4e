import pytest
import torch

from luffy_pl.objective.normalize import token_weight

MASK_NT = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
MODES = ["token", "sequence", "constant"]


def test_token_by_hand():
    # 6 tokens here, 12 in the step
    weight_NT = token_weight(MASK_NT, mode="token", total_tokens=12, total_rows=0)
    torch.testing.assert_close(weight_NT, MASK_NT / 12)


def test_sequence_by_hand():
    # rows of 2 and 4 tokens, 5 rows in the step: 1/10 and 1/20
    weight_NT = token_weight(MASK_NT, mode="sequence", total_tokens=0, total_rows=5)
    expected_NT = torch.tensor([[0.1, 0.1, 0, 0], [0.05] * 4, [0.0] * 4])
    torch.testing.assert_close(weight_NT, expected_NT)


def test_constant_by_hand():
    # 8 tokens times 5 rows
    weight_NT = token_weight(
        MASK_NT, mode="constant", total_tokens=0, total_rows=5, constant_tokens=8
    )
    torch.testing.assert_close(weight_NT, MASK_NT / 40)


def test_the_released_scale_is_a_sum_per_rank_over_the_length_averaged_over_ranks():
    torch.manual_seed(0)
    loss_NT, length, num_ranks = torch.rand(6, 4), 4, 2
    mask_NT = torch.rand(6, 4) > 0.3
    ranks = list(zip(loss_NT.chunk(num_ranks), mask_NT.chunk(num_ranks), strict=True))
    released = sum((loss * mask).sum() / length for loss, mask in ranks) / num_ranks
    ours = sum(
        (
            loss
            * token_weight(
                mask, mode="constant", total_tokens=0, total_rows=num_ranks, constant_tokens=length
            )
        ).sum()
        for loss, mask in ranks
    )
    torch.testing.assert_close(ours, released)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_an_empty_mask_gives_zeros(mode: str, rows: int, dtype: torch.dtype):
    weight_NT = token_weight(
        torch.zeros(rows, 4, dtype=dtype),
        mode=mode,
        total_tokens=0,
        total_rows=0,
        constant_tokens=4,
    )
    torch.testing.assert_close(weight_NT, torch.zeros(rows, 4))


@pytest.mark.parametrize("mode", MODES)
def test_float_masks_and_tensor_totals_are_the_same(mode: str):
    plain = token_weight(MASK_NT, mode=mode, total_tokens=6, total_rows=3, constant_tokens=4)
    other = token_weight(
        MASK_NT.float(),
        mode=mode,
        total_tokens=torch.tensor(6),
        total_rows=torch.tensor(3),
        constant_tokens=4,
    )
    torch.testing.assert_close(plain, other)


def test_weights_of_a_step_sum_to_one():
    for mode, rows in (("token", 3), ("sequence", 2)):  # the empty row has no term to count
        weight_NT = token_weight(MASK_NT, mode=mode, total_tokens=6, total_rows=rows)
        assert weight_NT.sum().item() == pytest.approx(1.0)


def test_constant_without_its_constant_says_so():
    with pytest.raises(ValueError, match="constant_tokens"):
        token_weight(MASK_NT, mode="constant", total_tokens=6, total_rows=3)
