"""Batches of equal tokens, in an order of each epoch's own, shared by passes and processes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fishersft.models.token_batches import TokenBatches, passes_of_a_step

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


def drawn(batches: TokenBatches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    return list(batches)


@given(lengths=LENGTHS, count=st.integers(0, 80), seed=st.integers(0, 9))
def test_batches_hold_every_sentence_once_in_the_promised_number(lengths: list[int], count: int, seed: int) -> None:
    batches = TokenBatches(lengths, count, seed)
    found = list(batches)
    assert len(found) == len(batches) == max(1, min(len(lengths), count))
    assert all(found) and sorted(i for piece in found for i in piece) == list(range(len(lengths)))


def test_batches_hold_like_numbers_of_tokens() -> None:
    lengths = [60] * 10 + [10] * 60
    sizes = [sum(lengths[i] for i in batch) for batch in TokenBatches(lengths, 5, seed=0)]
    assert sum(sizes) == 1200 and all(abs(size - 240) <= 60 for size in sizes)


def test_each_epoch_has_its_own_order_which_hangs_on_the_seed_and_its_number_alone() -> None:
    first, second = (drawn(TokenBatches([5] * 20, 4, seed=3), epoch) for epoch in (0, 1))
    assert first != second and first != drawn(TokenBatches([5] * 20, 4, seed=4), 0)
    batches = TokenBatches([5] * 20, 4, seed=3)
    assert [drawn(batches, epoch) for epoch in (1, 0, 1)] == [second, first, second]


def examples_of(lengths: list[int]) -> list[dict[str, Any]]:
    return [{"input_ids": [place] * length, "labels": [place] * length} for place, length in enumerate(lengths)]


@given(lengths=LENGTHS, passes=st.integers(1, 5), ranks=st.integers(1, 4))
def test_the_passes_of_all_processes_count_every_token_of_a_step_once(
    lengths: list[int], passes: int, ranks: int
) -> None:
    shares = [passes_of_a_step(examples_of(lengths), passes, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1 and len(shares[0]) <= passes
    computed = [example for share in shares for one_pass in share for example in one_pass]
    assert all(one_pass for share in shares for one_pass in share)
    counted = [label for example in computed for label in example["labels"] if label != -100]
    assert sorted(counted) == sorted(place for place, length in enumerate(lengths) for _ in range(length))


def test_a_pass_holds_long_and_short_sentences() -> None:
    first, second = passes_of_a_step(examples_of([2, 50, 3, 51, 4, 52]), 2)
    assert [len(example["input_ids"]) for example in first] == [52, 50, 3]
    assert [len(example["input_ids"]) for example in second] == [51, 4, 2]
