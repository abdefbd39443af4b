"""Views of a pool whose rows are computed when they are asked for: some blocks, times a matrix, or weighted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks, checked_scales, elements_at_once
from fishersft.numerics.row_cache import row_numbers

_CHUNK_ELEMENTS = 1 << 22


class MappedBlocks:
    """The blocks X_i, or X_i B, of some i, as `Blocks`: nothing but the pool itself is held in memory.

    Args:
        base: the pool.
        indices: (m,), int64; which blocks, in this order.
        matrix: B, (base.dim, dim); rows are computed in its dtype, on the device of the pool. None: rows as they are.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.arange(3))
        >>> MappedBlocks(pool, np.array([1]), torch.eye(2)[:, 1:])[0]
        tensor([[4.]])
    """

    def __init__(self, base: Blocks, indices: np.ndarray, matrix: torch.Tensor | None = None) -> None:
        self._base = base
        self._indices = indices
        self._matrix = None if matrix is None else matrix.to(base.device)
        chosen = torch.from_numpy(indices)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), base.offsets.diff()[chosen].cumsum(0)])
        self.lengths = base.lengths[chosen]
        self.dim = base.dim if matrix is None else matrix.shape[1]
        self.dtype = base.dtype if matrix is None else matrix.dtype
        self.device = base.device
        self.memory_for_looks = base.memory_for_looks * self.dim / max(base.dim, self.dim)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._mapped(self._base[int(self._indices[index])])

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """(sum of tokens, dim), as of `Blocks`."""
        return self._mapped(self._base.rows_of(self._indices[indices]))

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows, whole blocks at a time."""
        at_once = max(1, elements_at_once(self, _CHUNK_ELEMENTS) // max(self._base.dim, self.dim))
        first = 0
        while first < len(self):
            start = int(self.offsets[first])
            end = int(torch.searchsorted(self.offsets, start + at_once, right=True)) - 1
            end = max(end, first + 1)
            yield start, self.rows_of(np.arange(first, end))
            first = end

    def check_finite(self) -> None:
        """As of the pool."""
        self._base.check_finite()

    def _mapped(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self._matrix is None else rows.to(self._matrix) @ self._matrix


class WeightedBlocks:
    """A pool's blocks with each row scaled by the square root of its token's weight, as `TokenBlocks.weighted`.

    Args:
        base: the pool.
        weights: (tokens,), finite and >= 0, of any real dtype; kept as float32.

    Raises:
        InputError: another shape, or a weight that is negative, NaN or infinite.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.arange(3))
        >>> WeightedBlocks(pool, torch.tensor([4.0, 1.0]))[0]
        tensor([[2., 4.]])
    """

    def __init__(self, base: Blocks, weights: torch.Tensor) -> None:
        self._base = base
        self.dtype = torch.promote_types(base.dtype, torch.float32)
        self._scales = checked_scales(weights, base.offsets).to(base.device, self.dtype)
        self.offsets = base.offsets
        self.lengths = base.lengths
        self.dim = base.dim
        self.device = base.device
        self.memory_for_looks = base.memory_for_looks

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, index: int) -> torch.Tensor:
        start, end = self.offsets[index : index + 2].tolist()
        return self._base[index] * self._scales[start:end, None]

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """(sum of tokens, dim), as of `Blocks`."""
        numbers = torch.from_numpy(row_numbers(self.offsets.numpy(), indices)).to(self.device)
        return self._base.rows_of(indices) * self._scales[numbers, None]

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows, as the pool cuts them."""
        for start, rows in self._base.chunks():
            yield start, rows * self._scales[start : start + len(rows), None]

    def check_finite(self) -> None:
        """As of the pool."""
        self._base.check_finite()
