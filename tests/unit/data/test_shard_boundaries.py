"""Shards follow the content: an edit makes few new ones, wherever it is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.data.shards import shard_boundaries

ROWS, TARGET = 3000, 64

rows = st.integers(0, ROWS - 1)
corpora = st.integers(0, 1000)


def digests(corpus: int, count: int = ROWS) -> list[bytes]:
    return [hashlib.sha256(f"{corpus}:{i}".encode()).digest() for i in range(count)]


def other(number: int) -> bytes:
    """A row that ends a shard in two cases of three, as the ones that do not are dull."""
    step = TARGET - TARGET // 4
    value = int.from_bytes(hashlib.sha256(f"other:{number}".encode()).digest()[:8], "big")
    return (value - value % step + (1 if number % 3 == 0 else 0)).to_bytes(8, "big") + bytes(24)


def shards(content: Sequence[bytes], target: int = TARGET) -> list[tuple[bytes, ...]]:
    return [tuple(content[piece]) for piece in shard_boundaries(as_array(content), target)]


def as_array(content: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(content), dtype=np.uint8).reshape(-1, 32)


def new_shards(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    return len(set(shards(after)) - set(shards(before)))


def most_new_shards(*contents: Sequence[bytes]) -> int:
    """2, and more only where a run of over 4 targets had to be cut at a row that may not end a shard."""
    step = TARGET - TARGET // 4
    ends = [shard[-1] for content in contents for shard in shards(content)[:-1]]
    return 2 if all(int.from_bytes(end[:8], "big") % step == 0 for end in ends) else 4


@given(corpora, st.integers(0, 300), st.integers(1, 100))
@settings(deadline=None)
def test_shards_cover_all_rows_in_order(corpus: int, count: int, target: int) -> None:
    content = digests(corpus, count)
    found = shards(content, target)
    assert [digest for shard in found for digest in shard] == content
    assert all(1 <= len(shard) <= 4 * target for shard in found)


@pytest.mark.parametrize("target", [1, 2, 3, 4, 64, 256])
def test_shards_are_about_as_large_as_asked_for(target: int) -> None:
    content = digests(0, 400 * target)
    sizes = [len(shard) for shard in shards(content, target)]
    assert 0.85 * target <= sum(sizes) / len(sizes) <= 1.2 * target
    assert max(sizes) <= 4 * target
    small = sum(size <= target // 4 for size in sizes)
    assert small <= 0.02 * len(sizes)


@given(corpora, rows, st.integers(0, 10_000))
@settings(deadline=None)
def test_one_row_inserted_makes_at_most_two_new_shards(corpus: int, at: int, number: int) -> None:
    before = digests(corpus)
    after = [*before[:at], other(number), *before[at:]]
    assert 1 <= new_shards(before, after) <= most_new_shards(before, after)


@given(corpora, rows)
@settings(deadline=None)
def test_one_row_deleted_makes_at_most_two_new_shards(corpus: int, at: int) -> None:
    before = digests(corpus)
    after = [*before[:at], *before[at + 1 :]]
    assert new_shards(before, after) <= most_new_shards(before, after)


@given(corpora, rows, st.integers(0, 10_000))
@settings(deadline=None)
def test_one_row_edited_makes_at_most_two_new_shards(corpus: int, at: int, number: int) -> None:
    before = digests(corpus)
    after = [*before[:at], other(number), *before[at + 1 :]]
    assert 1 <= new_shards(before, after) <= most_new_shards(before, after)


def test_more_than_two_new_shards_are_rare() -> None:
    random_ = random.Random(0)
    content = next(content for content in map(digests, range(100)) if most_new_shards(content) > 2)
    found = []
    for number in range(300):
        at = random_.randrange(ROWS)
        found.append(new_shards(content, [*content[:at], other(number), *content[at:]]))
    assert sum(count > 2 for count in found) <= 3


@given(corpora, st.integers(1, ROWS))
@settings(deadline=None)
def test_appending_changes_at_most_the_last_shard(corpus: int, count: int) -> None:
    content = digests(corpus)
    before = shards(content[:count])
    assert shards(content)[: len(before) - 1] == before[:-1]


def test_rows_that_end_no_shard_are_cut_at_the_largest_size() -> None:
    content = [(value * 48 + 1).to_bytes(8, "big") + bytes(24) for value in random.Random(0).sample(range(10**6), 1000)]
    sizes = [len(shard) for shard in shards(content)]
    assert max(sizes) <= 4 * TARGET
    assert min(sizes[:-1]) > TARGET // 4


def test_no_rows_are_no_shards() -> None:
    assert shards([]) == []
