"""A corpus of several files that grows, shrinks and is tidied: few shards are new, whatever the files are called."""

from __future__ import annotations

import hashlib
import random
from functools import cache
from itertools import pairwise

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fishersft.data.duplicates import kept_occurrences
from fishersft.data.shards import pool_shards

TARGET = 16
NEW = 10**9  # rows of the corpora drawn have smaller numbers

Files = list[list[int]]


@cache
def digest(row: int) -> bytes:
    return hashlib.sha256(str(row).encode()).digest()


def kept(files: Files) -> tuple[np.ndarray, np.ndarray, list[int]]:
    rows = [row for file in files for row in file]
    digests = np.frombuffer(b"".join(map(digest, rows)), dtype=np.uint8).reshape(-1, 32)
    places = np.array([number for number, file in enumerate(files) for _ in file])
    stay = kept_occurrences(digests, places)
    return digests[stay], places[stay], [rows[place] for place in stay]


def shards(files: Files) -> list[tuple[int, ...]]:
    digests, places, rows = kept(files)
    return [tuple(rows[place] for place in shard) for shard in pool_shards(digests, places, TARGET)]


def new_shards(before: Files, after: Files) -> int:
    return len(set(shards(after)) - set(shards(before)))


def lost_shards(before: Files, after: Files) -> int:
    return len(set(shards(before)) - set(shards(after)))


def distinct_files(sizes: list[int], start: int) -> Files:
    ends = np.cumsum([start, *sizes]).tolist()
    return [list(range(begin, end)) for begin, end in pairwise(ends)]


corpora = st.builds(
    distinct_files, st.lists(st.sampled_from([1, 2, 3, 7, 20, 60, 200]), min_size=1, max_size=8), st.integers(0, 2000)
)
overlapping = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=40), min_size=1, max_size=5)
draws = st.integers(0, 2**32 - 1).map(random.Random)


def with_file(files: Files, at: int, content: list[int]) -> Files:
    return [content if number == at else file for number, file in enumerate(files)]


@given(overlapping)
@settings(deadline=None)
def test_each_example_is_kept_once_and_in_the_order_of_its_file(files: Files) -> None:
    _, places, rows = kept(files)
    assert sorted(rows) == sorted({row for file in files for row in file})
    assert len(np.flatnonzero(np.diff(places))) == len(set(places.tolist())) - 1, "file by file"
    for number, file in enumerate(files):
        found = [file.index(row) for row, place in zip(rows, places, strict=True) if place == number]
        assert found == sorted(found)


@given(corpora)
@settings(deadline=None)
def test_shards_cover_the_pool_and_reach_over_the_ends_of_small_files_only(files: Files) -> None:
    file_of = {row: number for number, file in enumerate(files) for row in file}
    found = shards(files)
    assert sorted(row for shard in found for row in shard) == sorted(file_of)
    for shard in found:
        held = {file_of[row] for row in shard}
        assert len(held) == 1 or all(len(files[number]) < TARGET // 4 for number in held)


def test_small_files_share_shards_and_are_not_cut_in_two() -> None:
    files = distinct_files([3] * 100, 0)
    found = shards(files)
    assert 0.7 * TARGET <= 300 / len(found) <= 1.5 * TARGET
    assert all(len(shard) % 3 == 0 for shard in found)


@given(overlapping, draws)
@settings(deadline=None)
def test_the_order_and_the_names_of_files_change_nothing(files: Files, draw: random.Random) -> None:
    assert shards(draw.sample(files, len(files))) == shards(files)


@given(corpora, draws)
@settings(deadline=None)
def test_a_new_file_of_copies_changes_nothing(files: Files, draw: random.Random) -> None:
    rows = [row for file in files for row in file]
    copies = draw.sample(rows, draw.randint(1, len(rows)))
    assume(all(set(copies) != set(file) for file in files))
    assert shards([*files, copies]) == shards(files)


@given(corpora, draws)
@settings(deadline=None)
def test_copies_appended_to_a_file_change_nothing(files: Files, draw: random.Random) -> None:
    rows = [row for file in files for row in file]
    copies = draw.sample(rows, draw.randint(1, len(rows)))
    at = draw.randrange(len(files))
    foreign = [row for row in copies if row not in files[at]]
    # The same rows at the ends of two files: nothing tells which came later.
    assume(all(set(foreign) != set(file[-len(foreign) :]) for file in files))
    assert shards(with_file(files, at, files[at] + copies)) == shards(files)


def test_of_the_same_rows_at_the_ends_of_two_files_the_larger_file_keeps_its_own() -> None:
    large, small = distinct_files([80, 30], 0)
    assert shards([large, small + large[-5:]]) == shards([large, small])


def test_a_file_and_its_copy_are_one() -> None:
    (file,) = distinct_files([100], 0)
    assert shards([file, list(file)]) == shards([file])


@given(draws, st.integers(1, 300), st.booleans())
@settings(deadline=None)
def test_appended_rows_move_nothing_of_what_files_share(draw: random.Random, count: int, to_first: bool) -> None:
    first, second = distinct_files([300, 400], 0)
    for row in draw.sample(first, 40):
        second.insert(draw.randrange(len(second)), row)
    before = [first, second]
    at = 0 if to_first else 1
    after = with_file(before, at, before[at] + list(range(NEW, NEW + count)))
    assert lost_shards(before, after) <= 1


def test_copies_among_new_rows_stay_where_they_were() -> None:
    """Not at an end, so by the size of the file, and by the rows before: few files begin with what others hold."""
    first, second = distinct_files([400, 400], 0)
    mixed = [NEW, first[10], NEW + 1, second[20], NEW + 2]
    assert lost_shards([first, second], [first, second, mixed]) == 0
    assert lost_shards([first, second], [first + mixed, second]) <= 1


@given(corpora, draws)
@settings(deadline=None)
def test_a_row_inserted_deleted_or_edited_in_a_large_file_makes_at_most_two_new_shards(
    files: Files, draw: random.Random
) -> None:
    at = draw.randrange(len(files))
    file = files[at]
    assume(len(file) > TARGET // 4)
    row = draw.randrange(len(file))
    for content in (
        [*file[:row], NEW, *file[row:]],
        file[:row] + file[row + 1 :],
        [*file[:row], NEW, *file[row + 1 :]],
    ):
        assert new_shards(files, with_file(files, at, content)) <= 2


@given(corpora, draws)
@settings(deadline=None)
def test_a_row_edited_in_a_small_file_makes_two_new_shards_and_two_more_where_the_file_moves(
    files: Files, draw: random.Random
) -> None:
    at = draw.randrange(len(files))
    row = draw.randrange(len(files[at]))
    content = [*files[at][:row], NEW, *files[at][row + 1 :]]
    moves = min(map(digest, content)) != min(map(digest, files[at]))
    assert new_shards(files, with_file(files, at, content)) <= (4 if moves else 2)


@given(corpora, draws, st.integers(1, 300))
@settings(deadline=None)
def test_rows_appended_to_a_large_file_change_at_most_its_last_shard(
    files: Files, draw: random.Random, count: int
) -> None:
    at = draw.randrange(len(files))
    assume(len(files[at]) >= TARGET // 4)
    assert lost_shards(files, with_file(files, at, files[at] + list(range(NEW, NEW + count)))) <= 1


@given(corpora, st.integers(1, 300))
@settings(deadline=None)
def test_a_new_file_changes_at_most_the_shards_of_the_small_files_beside_it(files: Files, count: int) -> None:
    lost = lost_shards(files, [*files, list(range(NEW, NEW + count))])
    assert lost <= (0 if count >= TARGET // 4 else 2)
