"""Looking at many token blocks at once: marginal gains as intervals that allow for rounding.

A look computes log det(I + K) with K = X A^-1 X^T = W W^T, W = X L^-T, by Cholesky in float32 or float64: dim^2 a token
for the solve, 2 tokens^2 dim for the product.

Rounding. An error dK changes log det(I + K) by no more than its nuclear norm, as (I + K)^-1 <= I. W solves a triangle
that is off by eps in every entry, so it errs by some eps |L| |W| entry by entry, taken as |W D|, D the norms of L's
columns; L^-1, without a singular value above 1, does not add to that. So K errs by 2 eps |W| max(|X|, |W D|), and by
eps * side * (1 + tr K) in the product and the factor. Measured errors are well within the 4 times that which is allowed
for; where rounding leaves no factor, the interval is (0, infinity).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks, elements_at_once
from fishersft.numerics.state import InformationState
from fishersft.numerics.threads import one_thread_each

_JOB_ELEMENTS = 1 << 20  # values of token blocks a thread takes at a time: 4 MiB in float32
_STRETCH = 4096  # blocks that are grouped by width together
_TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie
_ALLOWED = 4  # times the rounding that was measured


class GainLooks:
    """Marginal gains of blocks given the present state.

    Args:
        blocks: the pool.
        state: the information matrix, shared with whoever adds to it.
        regularization: lambda.
        device: where gains are computed; on the CPU by as many threads as torch uses, each a job at a time.
    """

    def __init__(self, blocks: Blocks, state: InformationState, regularization: float, device: torch.device) -> None:
        self._blocks = blocks
        self._state = state
        self._scale = 1 / math.sqrt(regularization)
        self._device = device
        self._rows_in = blocks.offsets.diff().numpy()
        self._widths = padded_widths(self._rows_in)
        self._energies = np.full(len(blocks), np.nan)
        self._job_elements = elements_at_once(blocks, _JOB_ELEMENTS)
        self._workers = torch.get_num_threads()
        self._threads = one_thread_each(self._workers) if device.type == "cpu" else None

    def close(self) -> None:
        """End the threads, and let torch share out its work again."""
        if self._threads is not None:
            self._threads.shutdown()
            torch.set_num_threads(self._workers)

    def __call__(self, indices: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (n,) each, in nats, of the marginal gains of some blocks; float32 is the fast way."""
        gains, errors = np.empty(len(indices)), np.empty(len(indices))

        def look(at: np.ndarray) -> None:
            gains[at], errors[at] = self._look(indices[at], dtype)

        self._share_out(look, indices)
        known = np.isfinite(gains) & np.isfinite(errors)
        margin = np.where(known, errors + _TIE_WINDOW * gains, 0.0)
        return np.where(known, gains - margin, 0.0), np.where(known, gains + margin, np.inf)

    def _share_out(self, work: Callable[[np.ndarray], None], indices: np.ndarray) -> None:
        """Calls `work` with positions in `indices`, some at a time, which differ between calls at the same time."""
        jobs = list(self._jobs(indices))
        if self._threads is None or len(jobs) == 1:
            for job in jobs:
                work(job)
        else:
            list(self._threads.map(work, jobs))

    def _jobs(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Positions in `indices`, ordered by width, in jobs of about equal size."""
        # stretch by stretch, so that a look at a whole pool on disk reads it once and in order
        for stretch in np.array_split(np.arange(len(indices)), 1 + len(indices) // _STRETCH):
            members = indices[stretch]
            order = np.argsort(self._widths[members], kind="stable")
            elements = (self._rows_in[members[order]] * self._blocks.dim).cumsum()
            most = int(elements[-1]) if len(elements) else 0
            number = max(min(self._workers, len(stretch)), -(-most // self._job_elements))
            cuts = np.searchsorted(elements, most * np.arange(1, number) / number)
            yield from (job for job in np.split(stretch[order], cuts) if len(job))

    def _groups(self, members: np.ndarray) -> Iterator[tuple[slice, slice]]:
        """Neighbours of one padded width: which of the members, and which of their rows."""
        ends = np.concatenate([np.flatnonzero(np.diff(self._widths[members])) + 1, [len(members)]])
        rows = np.concatenate([[0], self._rows_in[members].cumsum()])
        for start, end in pairwise([0, *ends.tolist()]):
            yield slice(start, end), slice(int(rows[start]), int(rows[end]))

    def _look(self, members: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Gains, and what they may err by; members are ordered by width."""
        gains, errors = np.empty(len(members)), np.empty(len(members))
        rows = self._rows(members, dtype)
        if not np.isfinite(self._energies[members]).all():
            self._energies[members] = self._sums(rows.square().sum(1), members)
        energies = self._energies[members]
        if not self._state.is_identity:
            rows = self._state.whitened(rows)
            weights = self._state.column_norms(dtype).square()
            energies = np.maximum(energies, self._sums(rows.square() @ weights, members))
        eps = _ALLOWED * torch.finfo(dtype).eps
        for group, of_group in self._groups(members):
            whitened = self._padded(rows[of_group], members[group])
            side_by_side = whitened.shape[1] <= whitened.shape[2]
            gram = whitened @ whitened.mT if side_by_side else whitened.mT @ whitened
            trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).double().cpu().numpy()
            errors[group] = eps * (2 * np.sqrt(trace * energies[group]) + gram.shape[-1] * (1 + trace))
            gains[group] = _log_dets(gram)
        return gains, errors

    def _rows(self, members: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        rows = self._blocks.rows_of(members).to(self._device, dtype)
        return rows if self._scale == 1 else rows * self._scale

    def _sums(self, of_rows: torch.Tensor, members: np.ndarray) -> np.ndarray:
        """(n,), float64; the sum over each member's rows."""
        sums = np.concatenate([[0.0], of_rows.double().cpu().numpy().cumsum()])
        ends = self._rows_in[members].cumsum()
        return sums[ends] - sums[ends - self._rows_in[members]]

    def _padded(self, rows: torch.Tensor, members: np.ndarray) -> torch.Tensor:
        """(sum of tokens, k) rows as (blocks, width, k), with rows of zeros behind each block's own."""
        width = int(self._widths[members[0]])
        lengths = self._rows_in[members]
        if (lengths == width).all():
            return rows.reshape(len(members), width, -1)
        starts = np.repeat(np.arange(len(members)) * width - (lengths.cumsum() - lengths), lengths)
        padded = rows.new_zeros(len(members) * width, rows.shape[1])
        padded.index_copy_(0, torch.from_numpy(starts + np.arange(len(rows))).to(rows.device), rows)
        return padded.view(len(members), width, -1)


def _log_dets(gram: torch.Tensor) -> np.ndarray:
    """log det(I + K) of (n, side, side) K, changed in place: (n,), float64, infinity where there is no factor."""
    gram.diagonal(dim1=-2, dim2=-1).add_(1)
    factor, failed = torch.linalg.cholesky_ex(gram)
    log_dets = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).double()
    return torch.where(failed == 0, log_dets, torch.inf).cpu().numpy()


def padded_widths(rows: np.ndarray) -> np.ndarray:
    """Rows rounded up to one of four sizes between powers of two: blocks of similar size are computed together."""
    exponents = np.ceil(np.log2(np.maximum(rows, 1))).astype(np.int64)
    unit = np.maximum(1, 2 ** np.maximum(exponents - 2, 0))
    return np.maximum(1, -(-rows // unit) * unit)
