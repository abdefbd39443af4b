"""Several pools as one, without copying them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.arguments import BlocksLike, as_blocks


class ShardedBlocks:
    """All blocks of the first shard, then all of the second, and so on, as `Blocks`.

    Args:
        shards: of one dim and on one device; rows are given in the widest of their dtypes.

    Raises:
        InputError: no shards, or shards that differ in dim or device.

    Attributes:
        starts: (shards + 1,), int64; the number of each shard's first block, and of all blocks.

    Example:
        >>> pool = ShardedBlocks([[[[1.0]], [[2.0]]], [[[3.0], [4.0]]]])
        >>> len(pool), pool.lengths.tolist(), pool.rows_of(np.array([2, 0])).flatten().tolist()
        (3, [1, 1, 2], [3.0, 4.0, 1.0])
    """

    def __init__(self, shards: Sequence[BlocksLike]) -> None:
        if not len(shards):
            raise InputError("there are no shards; give at least one with token blocks")
        self._shards = [as_blocks(shard) for shard in shards]
        first = self._shards[0]
        for k, shard in enumerate(self._shards):
            if shard.dim != first.dim:
                raise InputError(
                    f"shard {k} has dim {shard.dim}, shard 0 has {first.dim}; were both embedded with the same model?"
                )
            if shard.device != first.device:
                raise InputError(f"shard {k} is on {shard.device}, shard 0 on {first.device}; move all to one device")
        self.starts = np.cumsum([0] + [len(shard) for shard in self._shards])
        self.lengths = torch.cat([shard.lengths for shard in self._shards])
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), self.lengths.cumsum(0)])
        self.dim = first.dim
        self.dtype = reduce(torch.promote_types, [shard.dtype for shard in self._shards])
        self.device = first.device
        self.memory_for_looks = sum(shard.memory_for_looks for shard in self._shards)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> torch.Tensor:
        shard = int(self._shard_of(np.array([index]))[0])
        return self._shards[shard][index - int(self.starts[shard])].to(self.dtype)

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """(sum of tokens, dim), as of `Blocks`."""
        shards = self._shard_of(indices)
        lengths = self.lengths.numpy()[indices]
        owners = np.repeat(shards, lengths)
        rows = torch.empty(len(owners), self.dim, dtype=self.dtype, device=self.device)
        for shard in np.unique(shards).tolist():
            own = self._shards[shard].rows_of(indices[shards == shard] - self.starts[shard]).to(self.dtype)
            rows[torch.from_numpy(np.flatnonzero(owners == shard)).to(self.device)] = own
        return rows

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order, in the parts that the shards give."""
        for shard, first in zip(self._shards, self.starts, strict=False):
            for start, rows in shard.chunks():
                yield int(self.offsets[first]) + start, rows.to(self.dtype)

    def check_finite(self) -> None:
        """As of `Blocks`; names the shard too."""
        for k, shard in enumerate(self._shards):
            try:
                shard.check_finite()
            except InputError as error:
                raise InputError(f"in shard {k}: {error}") from error

    def _shard_of(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, indices, side="right") - 1
