"""Looking at many token blocks at once: their marginal gains as intervals that allow for rounding.

log det(I + K) with K = X A^-1 X^T, by Cholesky in float32 or float64. There are two ways to K: anew, as W W^T with
W = X L^-T (dim^2 a token); or by catching up, K - C C^T with C = X P and P the columns since the last look (2 dim a
token and column; see `state`). Which one costs less is known beforehand, block by block.

Rounding. An error dK changes log det(I + K) by no more than its nuclear norm, as (I + K)^-1 <= I. C errs by some
eps |X| in the Frobenius norm, as P has no singular value above 1. W solves a triangle that is off by eps in every
entry, so it errs by some eps |L| |W| entry by entry, taken as |W D|, D the norms of L's columns; L^-1, without a
singular value above 1 either, does not add to that. So K errs by 2 eps |W| max(|X|, |W D|) (or 2 eps |C| |X|), and by
eps * side * (1 + tr K) in the product and the factor. Measured errors are well within the 4 times that which is allowed
for; where rounding leaves no factor, the interval is (0, infinity).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.state import InformationState

_JOB_ELEMENTS = 1 << 19  # values of token blocks a thread takes at a time: 2 MiB in float32
_STRETCH = 4096  # blocks that are grouped by width together
_TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie
_TOO_ROUGH = 1e-3  # of a gain: errors that have added up to this are cleared by starting anew


class GainLooks:
    """Marginal gains of blocks given the present state, cheaper for blocks that were looked at lately.

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
        self._lengths = blocks.lengths.numpy()
        self._widths = _padded_widths(self._lengths)
        self._energies = np.full(len(blocks), np.nan)
        self._errors = np.zeros(len(blocks))
        self._known_at = np.full(len(blocks), -1, dtype=np.int64)  # at which column K was up to date
        self._grams = _GramCache(self._widths, device)
        self._workers = torch.get_num_threads()
        self._threads = _one_thread_each(self._workers) if device.type == "cpu" else None

    def close(self) -> None:
        """End the threads, and let torch share out its work again."""
        if self._threads is not None:
            self._threads.shutdown()
            torch.set_num_threads(self._workers)

    def __call__(self, indices: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (n,) each, in nats, of the marginal gains of some blocks.

        float32 is the fast way, and remembers; float64 starts anew, and does not.
        """
        gains, errors = np.empty(len(indices)), np.empty(len(indices))
        keep = dtype == torch.float32 and len(indices) < len(self._blocks)
        stale = self._state.columns - self._known_at[indices]
        slots = self._grams.slots[indices]
        may_catch_up = (slots >= 0) & (stale <= self._state.window) & (dtype == torch.float32)
        may_catch_up &= self._errors[indices] < np.inf
        jobs: list[tuple[Callable[..., None], np.ndarray]] = []
        for chosen, look in ((may_catch_up, self._catch_up), (~may_catch_up, self._look_anew)):
            positions = np.flatnonzero(chosen)
            # stretch by stretch, so that a look at a whole pool on disk reads it once and in order
            for stretch in np.array_split(positions, 1 + len(positions) // _STRETCH):
                jobs += [(look, at) for at in self._jobs(stretch, indices, stale)]
        if keep:
            self._grams.reserve(indices[self._widths[indices] <= self._blocks.dim], self._outdated)

        def work(job: tuple[Callable[..., None], np.ndarray]) -> None:
            look, at = job
            look(indices[at], at, gains, errors, dtype, keep)

        if self._threads is None or len(jobs) == 1:
            for job in jobs:
                work(job)
        else:
            list(self._threads.map(work, jobs))
        known = np.isfinite(gains) & np.isfinite(errors)
        margin = np.where(known, errors + _TIE_WINDOW * gains, 0.0)
        return np.where(known, gains - margin, 0.0), np.where(known, gains + margin, np.inf)

    def _outdated(self, owners: np.ndarray) -> np.ndarray:
        return self._state.columns - self._known_at[owners] > self._state.window

    def _jobs(self, chosen: np.ndarray, indices: np.ndarray, stale: np.ndarray) -> Iterator[np.ndarray]:
        """Positions in `indices` in groups of like width and staleness that a thread takes at a time."""
        order = chosen[np.lexsort((stale[chosen], self._widths[indices[chosen]]))]
        widths = self._widths[indices[order]]
        for group in np.split(order, np.flatnonzero(np.diff(widths)) + 1) if len(order) else []:
            width = int(self._widths[indices[group[0]]])
            at_once = max(1, _JOB_ELEMENTS // (width * self._blocks.dim))
            yield from (group[start : start + at_once] for start in range(0, len(group), at_once))

    def _rows(self, members: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return self._blocks.rows_of(members).to(self._device, dtype) * self._scale

    def _look_anew(
        self, members: np.ndarray, at: np.ndarray, gains: np.ndarray, errors: np.ndarray, dtype: torch.dtype, keep: bool
    ) -> None:
        rows = self._rows(members, dtype)
        if not np.isfinite(self._energies[members]).all():
            energies = torch.segment_reduce(
                rows.square().sum(1), "sum", lengths=torch.from_numpy(self._lengths[members]).to(rows.device)
            )
            self._energies[members] = energies.double().cpu().numpy()
        energy = self._energies[members]
        if not self._state.is_identity:
            rows = torch.linalg.solve_triangular(self._state.factor(dtype), rows.T, upper=False).T
        padded = self._padded(rows, members)
        if not self._state.is_identity:
            weighted = padded.square().sum(1) @ self._state.column_norms(dtype).square()
            energy = np.maximum(energy, weighted.double().cpu().numpy())
        side_by_side = padded.shape[1] <= padded.shape[2]
        gram = padded @ padded.mT if side_by_side else padded.mT @ padded
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).double().cpu().numpy()
        eps = 4 * torch.finfo(dtype).eps
        error = eps * (2 * np.sqrt(trace * energy) + gram.shape[-1] * (1 + trace))
        gains[at], errors[at] = _log_dets(gram), error
        if keep and side_by_side:
            self._remember(members, gram, error, gains[at])

    def _catch_up(
        self, members: np.ndarray, at: np.ndarray, gains: np.ndarray, errors: np.ndarray, dtype: torch.dtype, keep: bool
    ) -> None:
        known_at = self._known_at[members]
        first = int(known_at.min())
        gram = self._grams.read(members)
        error = self._errors[members]
        if first < self._state.columns:
            change = self._rows(members, dtype) @ self._state.columns_since(first)
            padded = self._padded(change, members)
            if (known_at > first).any():
                columns = torch.arange(first, self._state.columns, device=padded.device)
                padded *= (columns >= torch.from_numpy(known_at).to(columns)[:, None])[:, None, :]
            energy = padded.square().sum((1, 2)).double().cpu().numpy()
            trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).double().cpu().numpy()
            gram.baddbmm_(padded, padded.mT, alpha=-1)
            eps = 4 * torch.finfo(dtype).eps
            error = error + eps * (2 * np.sqrt(energy * self._energies[members]) + gram.shape[-1] * (trace + energy))
        gains[at], errors[at] = _log_dets(gram), error
        self._remember(members, gram, error, gains[at])

    def _remember(self, members: np.ndarray, gram: torch.Tensor, error: np.ndarray, gains: np.ndarray) -> None:
        self._grams.write(members, gram)
        self._known_at[members] = self._state.columns
        self._errors[members] = np.where(error <= _TOO_ROUGH * gains, error, np.inf)

    def _padded(self, rows: torch.Tensor, members: np.ndarray) -> torch.Tensor:
        """(sum of tokens, k) rows as (blocks, width, k), with rows of zeros behind each block's own."""
        width = int(self._widths[members[0]])
        lengths = self._lengths[members]
        if (lengths == width).all():
            return rows.reshape(len(members), width, -1)
        starts = np.repeat(np.arange(len(members)) * width - (lengths.cumsum() - lengths), lengths)
        padded = rows.new_zeros(len(members) * width, rows.shape[1])
        padded[torch.from_numpy(starts + np.arange(len(rows))).to(rows.device)] = rows
        return padded.view(len(members), width, -1)


class _GramCache:
    """K of the blocks that were looked at lately: slots of equal size, taken over when outdated.

    Args:
        widths: (n,), int64; the padded number of tokens of each block.
        device: where K is kept, in float32.

    Attributes:
        slots: (n,), int64; where a block's K is among those of its width; -1: nowhere.
    """

    def __init__(self, widths: np.ndarray, device: torch.device) -> None:
        self.slots = np.full(len(widths), -1, dtype=np.int64)
        self._widths = widths
        self._device = device
        self._grams: dict[int, torch.Tensor] = {}
        self._owners: dict[int, np.ndarray] = {}  # -1: free

    def reserve(self, members: np.ndarray, outdated: Callable[[np.ndarray], np.ndarray]) -> None:
        """Give every one of these blocks a slot."""
        for width in np.unique(self._widths[members]).tolist():
            alike = members[self._widths[members] == width]
            if width not in self._grams:
                self._grams[width] = torch.empty(0, width, width, device=self._device)
                self._owners[width] = np.empty(0, dtype=np.int64)
            owners = self._owners[width]
            if np.count_nonzero(owners < 0) < np.count_nonzero(self.slots[alike] < 0):
                held = np.flatnonzero(owners >= 0)
                expired = held[outdated(owners[held])]
                self.slots[owners[expired]] = -1
                owners[expired] = -1
            new = alike[self.slots[alike] < 0]
            lacking = len(new) - np.count_nonzero(owners < 0)
            if lacking > 0:
                grams = self._grams[width]
                added = max(int(lacking), len(grams) // 2)
                self._grams[width] = torch.cat([grams, grams.new_zeros(added, width, width)])
                self._owners[width] = owners = np.concatenate([owners, np.full(added, -1)])
            slots = np.flatnonzero(owners < 0)[: len(new)]
            owners[slots] = new
            self.slots[new] = slots

    def read(self, members: np.ndarray) -> torch.Tensor:
        """(blocks, width, width), a copy, of blocks of one width."""
        return self._grams[int(self._widths[members[0]])][self._at(members)]

    def write(self, members: np.ndarray, grams: torch.Tensor) -> None:
        """Keep K of blocks of one width that have a slot; several threads may write at once."""
        self._grams[int(self._widths[members[0]])][self._at(members)] = grams

    def _at(self, members: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.slots[members]).to(self._device)


def _log_dets(gram: torch.Tensor) -> np.ndarray:
    """(n,), float64, on the CPU; log det(I + K) of (n, side, side) matrices, infinity where there is no factor."""
    shifted = gram.clone()
    shifted.diagonal(dim1=-2, dim2=-1).add_(1)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    log_dets = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).double()
    return torch.where(failed == 0, log_dets, torch.inf).cpu().numpy()


def _padded_widths(lengths: np.ndarray) -> np.ndarray:
    """Tokens rounded up to one of four sizes between powers of two: blocks of like length are computed together."""
    exponents = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    unit = np.maximum(1, 2 ** np.maximum(exponents - 2, 0) // 2)
    return np.maximum(1, -(-lengths // unit) * unit)


def _one_thread_each(workers: int) -> ThreadPoolExecutor:
    """Threads that each compute alone: small products gain more from that than from sharing out each of them.

    MKL knows one number of threads for all: it is 1 for the whole process until it is set again.
    """
    started = Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    executor = ThreadPoolExecutor(workers, thread_name_prefix="looks")
    for _ in range(workers):
        executor.submit(start)
    started.wait()
    return executor
