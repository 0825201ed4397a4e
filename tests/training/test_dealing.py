"""Micro-batches of all ranks: as many for each, of about the same size, and nothing left out."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from luffy_pl.training.dealing import RowSize, deal, group_key, num_computed
from luffy_pl.training.micro_batches import micro_batch_rows


def row(owner, place, tokens, *, group=None, prompt=0):
    return RowSize(owner, place, 0, place if group is None else group, tokens, prompt)


def test_a_deal_by_hand():
    """A budget of 8 makes four micro-batches of 9 (alone), 8, 7 and 3 x 2, as few as one of 10."""
    rows = [row(0, 0, 9), row(0, 1, 8), row(0, 2, 7), *(row(1, place, 2) for place in range(3))]
    first, second = deal(rows, num_ranks=2, token_budget=10)
    assert [[one.num_tokens for one in batch] for batch in first] == [[9], [2, 2, 2]]
    assert [[one.num_tokens for one in batch] for batch in second] == [[8], [7]]


def test_a_shared_prompt_counts_once():
    """Two rows of 6 that share 4 are 8 tokens together; other groups share nothing with them."""
    rows = [row(0, place, 6, group=place // 2, prompt=4) for place in range(4)]
    assert num_computed(rows[:2]) == 8
    assert num_computed(rows[1:3]) == 12
    hands = deal(rows, num_ranks=2, token_budget=8)
    assert sorted([[one.group for one in batch] for [batch] in hands]) == [[0, 0], [1, 1]]


def test_what_is_too_few_for_all_is_cut_in_two():
    """One micro-batch would hold all three; two ranks have one each."""
    hands = deal([row(0, place, 3) for place in range(3)], num_ranks=2, token_budget=100)
    assert [[len(batch) for batch in hand] for hand in hands] == [[2], [1]]


def test_fewer_rows_than_ranks_and_none():
    assert [len(hand) for hand in deal([row(1, 0, 3)], num_ranks=3, token_budget=9)] == [1, 0, 0]
    assert deal([], num_ranks=2, token_budget=9) == [[], []]


def drawn(seed, num_ranks, *, groups=8, size=8):
    """Groups of very unequal rows: those of the later ranks are up to twenty times as long."""
    draw = random.Random(seed)
    return [
        row(owner, size * group + number, min(1200, draw.randint(10, 60 * (1 + 5 * owner))),
            group=group, prompt=9)
        for owner in range(num_ranks)
        for group in range(groups)
        for number in range(size)
    ]  # fmt: skip


def num_by_place(rows, num_ranks, budget):
    """Micro-batches of each rank where rows stay where they were collected."""
    found = []
    for owner in range(num_ranks):
        own = [one for one in rows if one.owner == owner]
        cut = micro_batch_rows(
            [one.num_tokens for one in own],
            token_budget=budget,
            group=[one.group for one in own],
            num_prompt=[one.num_prompt for one in own],
        )
        found.append(len(cut))
    return found


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_ranks_get_equally_many_of_about_the_same_size(num_ranks, seed):
    rows, budget = drawn(seed, num_ranks), 1000
    hands = deal(rows, num_ranks=num_ranks, token_budget=budget)
    assert hands == deal(rows, num_ranks=num_ranks, token_budget=budget)
    batches = [batch for hand in hands for batch in hand]
    dealt = Counter((one.owner, one.place) for batch in batches for one in batch)
    assert dealt == Counter((one.owner, one.place) for one in rows)
    assert len({len(hand) for hand in hands}) == 1, "a rank has fewer: the others wait for nothing"
    assert all(num_computed(batch) <= budget or len(batch) == 1 for batch in batches)
    sums = [sum(map(num_computed, hand)) for hand in hands]
    assert max(sums) < 1.05 * min(sums)
    for batch in batches:
        groups = [group_key(one) for one in batch]
        assert len({*groups}) == 1 + sum(a != b for a, b in pairwise(groups))
    by_place = num_by_place(rows, num_ranks, budget)
    assert len(batches) < 0.8 * num_ranks * max(by_place), "these rows need no dealing"
