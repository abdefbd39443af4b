"""Identical token blocks, found in one pass over the pool."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks

_MIXER = 0x1E3779B97F4A7C15  # any odd number with its bits well spread
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int32}  # float64 as halves: a product keeps too little of high bits


def fingerprints(blocks: Blocks) -> np.ndarray:
    """(n,), int64; equal for identical blocks, and nearly always different for others.

    A sum of each value's bits times a random odd number for its column, mixed row by row. Cost: one pass.
    """
    words = blocks.dim * max(1, blocks.dtype.itemsize // 4)
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(-(2**62), 2**62, (words,), generator=generator).to(blocks.device) | 1
    sums = torch.zeros(len(blocks), dtype=torch.int64)
    for start, rows in blocks.chunks():
        bits = rows.contiguous().view(_WORDS[rows.element_size()]).long()
        mixed = (bits * columns).sum(1)
        hashed = (mixed ^ (mixed >> 29)).cpu()
        numbers = torch.arange(start, start + len(rows))
        owners = torch.searchsorted(blocks.offsets, numbers, right=True) - 1
        hashed *= (numbers - blocks.offsets[owners]) * _MIXER * 2 + 1  # so that the order of the rows counts
        sums.index_add_(0, owners, hashed)
    return (sums ^ (blocks.offsets.diff() * _MIXER)).numpy()


class Twins:
    """Which blocks are identical, so that only the lowest index of each kind need be looked at.

    Args:
        blocks: the pool.
        prints: their `fingerprints`; blocks that share one are compared by their bytes.

    Attributes:
        original: (n,), int64; the lowest index with the same bytes.
    """

    def __init__(self, blocks: Blocks, prints: np.ndarray) -> None:
        self.original = np.arange(len(blocks))
        _, inverse, counts = np.unique(prints, return_inverse=True, return_counts=True)
        first_seen: dict[bytes, int] = {}
        for i in np.flatnonzero(counts[inverse] > 1).tolist():
            content = blocks[i].cpu().contiguous().view(torch.uint8).numpy().tobytes()
            digest = hashlib.blake2b(content, digest_size=16).digest()
            self.original[i] = first_seen.setdefault(digest, i)
        copies = np.bincount(self.original, minlength=len(blocks))[self.original] > 1
        # of every kind that has several, the members one after another
        members = np.flatnonzero(copies)
        self._members = members[np.argsort(self.original[members], kind="stable")]
        self._starts = np.flatnonzero(np.diff(self.original[self._members], prepend=-1))

    def candidates(self, open_: np.ndarray) -> np.ndarray:
        """(n,), bool; the open blocks without those that an open block of the same kind comes before."""
        if not len(self._members):
            return open_
        lowest = np.minimum.reduceat(np.where(open_[self._members], self._members, len(open_)), self._starts)
        among = open_.copy()
        among[self._members] = False
        among[lowest[lowest < len(open_)]] = True
        return among
