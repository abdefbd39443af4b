"""Batches for workers: every shard once, large ones first, small ones at the end, never too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fishersft.steps.batches import MOST_SHARDS, guided_batches

SIZES = st.lists(st.integers(0, 10_000), max_size=300)
AT_ONCE = st.integers(1, 300)


def totals(sizes: list[int], batches: list[list[int]]) -> list[int]:
    return [sum(max(sizes[place], 1) for place in batch) for batch in batches]


@given(SIZES, AT_ONCE)
def test_every_shard_is_in_one_batch(sizes: list[int], at_once: int) -> None:
    batches = guided_batches(sizes, at_once)
    assert sorted(place for batch in batches for place in batch) == list(range(len(sizes)))
    assert all(batches)


@given(SIZES, AT_ONCE)
def test_batches_fall_in_size(sizes: list[int], at_once: int) -> None:
    found = totals(sizes, guided_batches(sizes, at_once))
    assert found == sorted(found, reverse=True)


@given(SIZES, AT_ONCE)
def test_a_batch_is_at_most_half_of_a_workers_share_and_one_shard(sizes: list[int], at_once: int) -> None:
    found = totals(sizes, guided_batches(sizes, at_once))
    allowed = max(sum(found) / (2 * at_once), sum(found) / 256)
    assert all(total <= allowed + max([1, *sizes]) for total in found)


def test_the_last_batches_are_small_so_that_nobody_waits_long_for_the_last_worker() -> None:
    found = totals([100] * 1000, guided_batches([100] * 1000, at_once=4))
    assert found[0] == 12_500
    assert found[-1] <= 100_000 / (8 * 4) + 100


def test_there_are_hundreds_of_batches_at_most_however_many_shards_and_workers() -> None:
    assert len(guided_batches([70] * 50_000, at_once=1000)) <= 256
    assert len(guided_batches([0] * 50_000, at_once=50_000)) <= 256
    assert len(guided_batches([10**9, *[1] * 50_000], at_once=8)) <= 256 + 50_000 // MOST_SHARDS


def test_no_batch_has_more_keys_than_a_runs_parameters_may_hold() -> None:
    batches = guided_batches([1] * 20_000, at_once=1)
    assert max(len(batch) for batch in batches) == MOST_SHARDS


def test_one_shard_is_one_batch_and_none_is_none() -> None:
    assert guided_batches([17], at_once=8) == [[0]]
    assert guided_batches([], at_once=8) == []


def test_the_largest_shards_go_first() -> None:
    assert guided_batches([1, 9, 1, 5], at_once=4) == [[1], [3], [0], [2]]
