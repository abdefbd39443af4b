"""The information matrix of a greedy run: its factor, and what the last picks took away from its inverse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController

from fishersft.numerics.information import updated_cholesky

_LEADING = 24  # columns of a pick that are kept: with 8 a third more blocks need a look, with all a bound costs as much


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold numpy's and scipy's BLAS to one thread: theirs spin on when they are done, and slow all else by half."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def torch_threads(number: int) -> Iterator[int]:
    """Let torch use so many threads; gives how many they were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


class InformationState:
    """A = L L^T as blocks are added, with the recent columns P for which A^-1 fell by P P^T.

    When a block X is added, A'^-1 = A^-1 - P P^T with P = L^-T W R^-1, W = L^-1 X^T and R^T R = I + W^T W. So what
    a gain needs of another block, K = X A^-1 X^T, falls by C C^T with C = X P: see `looks` for what that bounds. P is
    turned so that its leading columns take most from the tokens of a sample, and only those are kept.

    The factor is kept in float64 on the CPU, where small factorisations are fastest; the columns in float32 on
    the device that computes gains.

    Args:
        cholesky: L at the start, (dim, dim), float64, lower triangular, A >= I.
        device: where `columns_since` and `factor` are wanted.
        sample: (m, dim), tokens of the pool, to tell which columns lead; not needed where blocks are single tokens.

    Attributes:
        cholesky: L, (dim, dim), float64, on the CPU.
        columns: how many columns there have been.
        window: beyond so many columns a new look is cheaper than a bound from the last one.
    """

    def __init__(self, cholesky: torch.Tensor, device: torch.device, sample: torch.Tensor | None = None) -> None:
        self.cholesky = cholesky.cpu()
        self.columns = 0
        self._device = device
        dim = len(cholesky)
        self.window = max(_LEADING, dim // 2)
        self._sample = torch.eye(dim) if sample is None else _unit_scaled(sample)
        self._recent = torch.zeros(dim, 4 * self.window, device=device)
        self._first = 0  # the number of the first column in `_recent`
        self._factors: dict[torch.dtype, torch.Tensor] = {}
        self._column_norms: torch.Tensor | None = None
        self.is_identity = bool((self.cholesky == torch.eye(dim, dtype=torch.float64)).all())

    def add(self, block: torch.Tensor) -> None:
        """Add X^T X for a block X, (tokens, dim), float64, on the CPU."""
        if len(block):
            root = block if len(block) <= len(self.cholesky) else torch.linalg.qr(block, mode="r").R
            self._append(self._leading(self._downdate(root)).to(self._device, torch.float32))
        self.cholesky = updated_cholesky(self.cholesky, block)
        self._factors.clear()
        self._column_norms = None
        self.is_identity = self.is_identity and len(block) == 0

    def columns_since(self, column: int) -> torch.Tensor:
        """P from one column on: (dim, columns - column), float32, on the device."""
        assert column >= self._first, f"column {column} is no longer kept; the first is {self._first}"
        return self._recent[:, column - self._first : self.columns - self._first]

    def factor(self, dtype: torch.dtype) -> torch.Tensor:
        """L in some precision, on the device."""
        if dtype not in self._factors:
            self._factors[dtype] = self.cholesky.to(self._device, dtype)
        return self._factors[dtype]

    def column_norms(self, dtype: torch.dtype) -> torch.Tensor:
        """(dim,), on the device; the norms of L's columns, by which a solve with L errs."""
        if self._column_norms is None:
            self._column_norms = self.cholesky.square().sum(0).sqrt().to(self._device)
        return self._column_norms.to(dtype)

    @property
    def norm(self) -> float:
        """|L|, in the Frobenius norm."""
        return float(self.column_norms(torch.float64).norm())

    def _downdate(self, block: torch.Tensor) -> torch.Tensor:
        whitened = torch.linalg.solve_triangular(self.cholesky, block.T, upper=False)
        if len(block) == 1:
            columns = whitened / math.hypot(1.0, float(whitened.norm()))
        else:
            identity = torch.eye(len(block), dtype=torch.float64)
            root = torch.linalg.qr(torch.cat([whitened, identity]), mode="r").R
            columns = torch.linalg.solve_triangular(root, whitened, upper=True, left=False)
        return torch.linalg.solve_triangular(self.cholesky.T, columns, upper=True)

    def _leading(self, columns: torch.Tensor) -> torch.Tensor:
        """P Q with the orthonormal directions Q of P's columns that take most from the sample."""
        if columns.shape[1] <= _LEADING:
            return columns
        seen = (self._sample @ columns.float()).double()
        _, directions = torch.linalg.eigh(seen.T @ seen)
        return columns @ directions[:, -_LEADING:]

    def _append(self, columns: torch.Tensor) -> None:
        width = columns.shape[1]
        kept = self.columns - self._first
        if kept + width > self._recent.shape[1]:
            forgotten = kept - min(kept, self.window)
            self._recent[:, : kept - forgotten] = self._recent[:, forgotten:kept].clone()
            self._first += forgotten
            kept -= forgotten
        self._recent[:, kept : kept + width] = columns
        self.columns += width


def _unit_scaled(sample: torch.Tensor) -> torch.Tensor:
    """In float32 on the CPU, the largest value 1."""
    largest = float(sample.abs().max()) if len(sample) else 0.0
    return (sample.cpu().double() / (largest or 1.0)).float()
