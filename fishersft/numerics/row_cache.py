"""A cache of token blocks by rows: the blocks used last, in memory that never grows."""

from __future__ import annotations

import numpy as np
import torch


class RowCache:
    """The rows of the blocks used last. The caller locks.

    Each row has a slot of one tensor that is allocated once, so that the memory neither grows nor fragments,
    whatever the blocks' lengths; blocks come and go as a whole.
    """

    def __init__(self, starts: np.ndarray, dim: int, dtype: torch.dtype, memory: int) -> None:
        blocks, tokens = len(starts) - 1, int(starts[-1])
        capacity = min(tokens, (memory - self.records(starts)) // (dim * dtype.itemsize + 4), np.iinfo(np.int32).max)
        self._starts = starts
        self._rows = torch.empty(capacity, dim, dtype=dtype)  # not resident until written
        self._bytes = self._rows.view(torch.uint8).numpy()  # the same memory; NumPy scatters rows faster than torch
        self._slots = np.zeros(tokens, np.int32)  # of each row, where its block is held
        self._free = np.arange(capacity, dtype=np.int32)[::-1].copy()  # a stack; its first `_free_count` are free
        self._free_count = capacity
        self._last_used = np.zeros(blocks, np.int64)  # by `_clock`; 0: not held
        self._clock = 0

    @staticmethod
    def records(starts: np.ndarray) -> int:
        """Bytes of the offsets (n + 1,) and of what is kept of each block and token; a cache needs more than that."""
        return 8 * len(starts) + 8 * (len(starts) - 1) + 4 * int(starts[-1])

    def holds(self, blocks: np.ndarray) -> np.ndarray:
        """Which blocks `take` can give: (m,), bool; blocks without rows always."""
        return (self._last_used[blocks] > 0) | (lengths_of(self._starts, blocks) == 0)

    def take(self, blocks: np.ndarray) -> torch.Tensor:
        """A copy of the rows of held blocks, one block after another."""
        self._mark_used(blocks)
        return self._rows.index_select(0, torch.from_numpy(self._slots[row_numbers(self._starts, blocks)]))

    def put(self, blocks: np.ndarray, rows: torch.Tensor) -> None:
        """Keeps different blocks and their rows, or the first of them that fit, in place of those used longest ago."""
        lengths = lengths_of(self._starts, blocks)
        new = (self._last_used[blocks] == 0) & (np.cumsum(lengths) <= len(self._rows))
        if not new.all():  # another thread was quicker, or they are more than fits
            rows, blocks = rows[torch.from_numpy(np.repeat(new, lengths))], blocks[new]
        if len(rows) > self._free_count:
            self._drop(len(rows) - self._free_count)
        slots = self._free[self._free_count - len(rows) : self._free_count][::-1].copy()
        self._free_count -= len(rows)
        self._slots[row_numbers(self._starts, blocks)] = slots
        self._bytes[slots] = rows.view(torch.uint8).numpy()
        self._mark_used(blocks)

    def _mark_used(self, blocks: np.ndarray) -> None:
        self._clock += 1
        self._last_used[blocks] = self._clock

    def _drop(self, rows: int) -> None:
        """Frees at least so many rows, and a sixteenth of all, so that the sorting is seldom."""
        held = np.flatnonzero(self._last_used)
        oldest = held[np.argsort(self._last_used[held], kind="stable")]
        freed = np.cumsum(lengths_of(self._starts, oldest))
        gone = oldest[: np.searchsorted(freed, max(rows, len(self._rows) // 16)) + 1]
        slots = self._slots[row_numbers(self._starts, gone)]
        self._free[self._free_count : self._free_count + len(slots)] = slots[::-1]
        self._free_count += len(slots)
        self._last_used[gone] = 0


def row_numbers(starts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """The numbers of the rows of some blocks, one block after another; `starts` (n + 1,) are the offsets of all."""
    lengths = lengths_of(starts, blocks)
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts[blocks] - before, lengths)


def lengths_of(starts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Rows of each of some blocks: (m,), int64; `starts` (n + 1,) are the offsets of all."""
    return starts[blocks + 1] - starts[blocks]
