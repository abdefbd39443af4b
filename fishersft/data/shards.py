"""Cutting the pool into shards by content, so that a change of the corpus makes few new ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np


def pool_shards(digests: np.ndarray, files: np.ndarray, target_rows: int) -> list[np.ndarray]:
    """Cuts each file by itself, and files of fewer than a quarter of the target together.

    No shard but of small files reaches over the end of a file, so neither the files' names nor what other files
    hold move the ends of its shards. Small files are taken in the order given and not cut in two: a shard ends after
    one that holds a row which may end a shard.

    Args:
        digests: (rows, 32), uint8; of distinct examples, file by file.
        files: (rows,), the file of each; the same number only in one run.
        target_rows: about the mean size, see `shard_boundaries`.

    Returns:
        list[np.ndarray]: of each shard its places in `digests`, int64; the small files' last.
    """
    ends = [0, *(np.flatnonzero(np.diff(files)) + 1).tolist(), len(files)]
    runs = [np.arange(begin, end) for begin, end in pairwise(ends) if end > begin]
    large = [run for run in runs if len(run) >= target_rows // 4]
    small = [run for run in runs if len(run) < target_rows // 4]
    shards = [run[piece] for run in large for piece in shard_boundaries(digests[run], target_rows)]
    return shards + _shards_of_small_files(digests, small, target_rows)


def shard_boundaries(digests: np.ndarray, target_rows: int) -> list[slice]:
    """Cuts rows into shards of about `target_rows` by content: an edit changes only the shards it touches.

    A row whose digest is 0 modulo 3/4 of the target may end a shard, and does unless another such row is
    among the target/4 before it. As only these neighbours count, a row inserted, deleted or edited moves at
    most one end: at most 2 shards are new; and when rows are appended, only the last old shard changes.
    Runs over 4 targets (about 1 shard in 150) are cut at their least digest; an edit inside one may, very
    rarely, change a shard more.

    Args:
        digests: (rows, 32), uint8; of distinct examples, in their order.
        target_rows: about the mean size, in rows. Shards hold at most 4 times as many, and over a quarter,
            but for the first, the last and the pieces of a long run.

    Returns:
        list[slice]: contiguous, covering all rows in order.
    """
    return _cut(digests, np.flatnonzero(_may_end(digests, target_rows)), target_rows)


def _shards_of_small_files(digests: np.ndarray, files: list[np.ndarray], target_rows: int) -> list[np.ndarray]:
    if not files:
        return []
    rows = np.concatenate(files)
    starts = np.cumsum([0, *map(len, files)])
    holds_an_end = np.logical_or.reduceat(_may_end(digests[rows], target_rows), starts[:-1])
    return [rows[piece] for piece in _cut(digests[rows], starts[1:][holds_an_end] - 1, target_rows)]


def _may_end(digests: np.ndarray, target_rows: int) -> np.ndarray:
    """(rows,), bool: whether a row's content lets a shard end after it."""
    values = np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1)
    return values % np.uint64(target_rows - target_rows // 4) == 0


def _cut(digests: np.ndarray, candidates: np.ndarray, target_rows: int) -> list[slice]:
    """Cuts after the candidates (places, ascending) that have no other among the target/4 rows before them."""
    least, most = target_rows // 4, 4 * target_rows
    cuts, last_candidate = [0], -1
    for candidate in candidates.tolist():
        if candidate - last_candidate > least:
            cuts.append(candidate + 1)
        last_candidate = candidate
    if cuts[-1] != len(digests):
        cuts.append(len(digests))
    return [piece for begin, end in pairwise(cuts) for piece in _pieces(digests, begin, end, least, most)]


def _pieces(digests: np.ndarray, begin: int, end: int, least: int, most: int) -> Iterator[slice]:
    while end - begin > most:
        cut = min(range(begin + least, begin + most), key=lambda i: digests[i].tobytes()) + 1
        yield slice(begin, cut)
        begin = cut
    yield slice(begin, end)
