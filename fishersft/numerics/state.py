"""The information matrix of a greedy run: its factor, and what single vectors took away from its inverse."""

from __future__ import annotations

import math

import torch

from fishersft.numerics.information import updated_cholesky

_STRETCH = 96  # columns that are whitened together


class InformationState:
    """A = L L^T as blocks are added.

    The factor is kept in float64 on the CPU, where small factorisations are fastest; copies of it in the precision
    and on the device that compute gains.

    Args:
        cholesky: L at the start, (dim, dim), float64, lower triangular, A >= I.
        device: where `factor` is wanted.

    Attributes:
        cholesky: L, (dim, dim), float64, on the CPU.
        is_identity: whether nothing is known yet, so that whitening changes nothing.
    """

    def __init__(self, cholesky: torch.Tensor, device: torch.device) -> None:
        self.cholesky = cholesky.cpu()
        self._device = device
        self._factors: dict[torch.dtype, torch.Tensor] = {}
        self._block_inverses: dict[torch.dtype, list[torch.Tensor]] = {}
        self._column_norms: torch.Tensor | None = None
        self.is_identity = bool((self.cholesky == torch.eye(len(cholesky), dtype=torch.float64)).all())

    def add(self, block: torch.Tensor) -> None:
        """Add X^T X for a block X, (tokens, dim), float64, on the CPU."""
        self.cholesky = updated_cholesky(self.cholesky, block)
        self._factors.clear()
        self._block_inverses.clear()
        self._column_norms = None
        self.is_identity = self.is_identity and len(block) == 0

    def whitened(self, rows: torch.Tensor) -> torch.Tensor:
        """W = X L^-T of rows X, (m, dim), in their precision, on the device.

        A stretch of columns at a time, with the inverse of L's block on the diagonal: matrix products are faster than
        a triangular solve, and as accurate here, since no inverse of a block has a singular value above 1.
        """
        if self.is_identity:
            return rows
        factor, inverses = self.factor(rows.dtype), self._inverses(rows.dtype)
        whitened = torch.empty_like(rows)
        for number, start in enumerate(range(0, len(factor), _STRETCH)):
            end = min(start + _STRETCH, len(factor))
            part = rows[:, start:end]
            if start:
                part = torch.addmm(part, whitened[:, :start], factor[start:end, :start].T, alpha=-1)
            torch.mm(part, inverses[number].T, out=whitened[:, start:end])
        return whitened

    def factor(self, dtype: torch.dtype) -> torch.Tensor:
        """L in some precision, on the device."""
        if dtype not in self._factors:
            self._factors[dtype] = self.cholesky.to(self._device, dtype)
        return self._factors[dtype]

    def _inverses(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """The inverses of the blocks on L's diagonal."""
        if dtype not in self._block_inverses:
            blocks = [self.cholesky[k : k + _STRETCH, k : k + _STRETCH] for k in range(0, len(self.cholesky), _STRETCH)]
            identity = torch.eye(_STRETCH, dtype=torch.float64)
            self._block_inverses[dtype] = [
                torch.linalg.solve_triangular(block, identity[: len(block), : len(block)], upper=False).to(
                    self._device, dtype
                )
                for block in blocks
            ]
        return self._block_inverses[dtype]

    def column_norms(self, dtype: torch.dtype) -> torch.Tensor:
        """(dim,), on the device; the norms of L's columns, by which a solve with L errs."""
        if self._column_norms is None:
            self._column_norms = self.cholesky.square().sum(0).sqrt().to(self._device)
        return self._column_norms.to(dtype)

    @property
    def norm(self) -> float:
        """|L|, in the Frobenius norm."""
        return float(self.cholesky.norm())


class VectorState(InformationState):
    """An `InformationState` to which single vectors are added, with the recent columns p for which A^-1 fell by p p^T.

        A'^-1 = A^-1 - p p^T,  p = L^-T w / sqrt(1 + |w|^2),  w = L^-1 x

    Columns are in float32, on the device.

    Attributes:
        columns: how many columns there have been.
        window: so many are kept at least; beyond, a leverage is computed anew at less cost.
    """

    def __init__(self, cholesky: torch.Tensor, device: torch.device) -> None:
        super().__init__(cholesky, device)
        dim = len(cholesky)
        self.columns = 0
        self.window = max(24, dim // 2)
        self._recent = torch.zeros(dim, 4 * self.window, device=device)
        self._first = 0  # the number of the first column in `_recent`

    def add(self, block: torch.Tensor) -> None:
        """Add x x^T for a block of one vector x, (1, dim), float64, on the CPU; or nothing, for an empty one."""
        assert len(block) <= 1, f"a block of {len(block)} tokens among single vectors"
        for vector in block:
            whitened = torch.linalg.solve_triangular(self.cholesky, vector[:, None], upper=False)
            column = torch.linalg.solve_triangular(self.cholesky.T, whitened, upper=True)
            self._append(column / math.hypot(1.0, float(whitened.norm())))
        super().add(block)

    def columns_since(self, column: int) -> torch.Tensor:
        """The columns from one on: (dim, columns - column), float32, on the device."""
        assert column >= self._first, f"column {column} is no longer kept; the first is {self._first}"
        return self._recent[:, column - self._first : self.columns - self._first]

    def _append(self, column: torch.Tensor) -> None:
        kept = self.columns - self._first
        if kept == self._recent.shape[1]:
            self._recent[:, : self.window] = self._recent[:, kept - self.window :].clone()
            self._first += kept - self.window
            kept = self.window
        self._recent[:, kept : kept + 1] = column.to(self._device, torch.float32)
        self.columns += 1
