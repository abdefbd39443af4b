"""Greedy for sentences of one vector: those with the highest gains are kept up to date, the others now and then."""

from __future__ import annotations

import math

import numpy as np
import torch

from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.certificates import PrefixBound
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import scaled, vector_gains
from fishersft.numerics.state import VectorState
from fishersft.numerics.threads import one_blas_thread, torch_threads
from fishersft.numerics.tiers import TIE_WINDOW, Tiers, reach

_BOUND_UPDATES = 6  # times in a run, at most, that the certificate is brought up to date
_MANY = 64  # contenders; so many are rather copies of each other, or a sign of rounding


def holds_single_vectors(blocks: TokenBlocks, regularization: float) -> bool:
    """Whether no block has more than one token, and float32 can hold the squares of all of them over lambda."""
    if int(blocks.lengths.max()) > 1:
        return False
    limit = torch.finfo(torch.float32).max ** 0.5 / blocks.dim * min(1.0, math.sqrt(regularization))
    extremes = (rows.aminmax() for _, rows in blocks.chunks())
    return all(-limit < float(low) and float(high) < limit for low, high in extremes)


def vector_greedy(
    blocks: TokenBlocks,
    picks: Picks,
    *,
    regularization: float = 1.0,
    cholesky: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Greedy by information gain over single vectors x_i, with the picks of `reference.naive_greedy`.

        gain = log(1 + l_i),  l_i = x_i^T A^-1 x_i;  after a pick with the column p, l_i falls by (x_i^T p)^2

    Leverages l_i only fall. So at a pick only a shortlist, the vectors with the highest, is brought up to date, and no
    other vector is read as long as the best of the shortlist is above what the highest of the others once was. When it
    is not, a larger part of the pool is caught up with all picks since by one product: see `tiers`.

    All that is in float32 with a bound on its rounding; what may be the best within that is computed in float64, so
    that the lower index wins as in Algorithm 1.

    Args: as of `lazy.lazy_greedy`; `holds_single_vectors` is true of the blocks.
    Cost: at most 2 dim a vector and pick, and dim^2 a vector each time that more than dim picks have been made; but
        the pool is read for many picks at once.
    Source: rank-one updates as in Chen, Zhang and Zhou (2018), "Fast greedy MAP inference for determinantal point
        process"; the tiers and the intervals are this project's.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=2)
        >>> vector_greedy(pool, picks)
        >>> picks.indices
        [1, 2]
    """
    start = torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky
    with one_blas_thread(), torch_threads(1) as threads:
        search = _VectorSearch(blocks, picks, start, regularization, torch.device(device), threads)
        while picks.open.any():
            index, gain = search.best()
            if picks.take(index, gain):
                search.add(index)
        search.update_bound()


class _VectorSearch:
    """The best open vector, step by step. See `vector_greedy` for the arguments."""

    def __init__(
        self,
        blocks: TokenBlocks,
        picks: Picks,
        cholesky: torch.Tensor,
        regularization: float,
        device: torch.device,
        threads: int,
    ) -> None:
        self._blocks = blocks
        self._picks = picks
        self._regularization = regularization
        self._state = VectorState(cholesky, device)
        for index in picks.indices:
            self.add(index)
        nonempty = np.flatnonzero(blocks.lengths.numpy())
        vectors = blocks.values.to(device, torch.float32)
        self._tiers = Tiers(nonempty, vectors, self._state, 1 / math.sqrt(regularization), threads)
        self._reopened = True
        self._copied: np.ndarray | None = None  # (n,), of what is known to be a copy: the one before it; -1
        self._bound_due = 0  # at so many picks, or as soon as all leverages are up to date
        self._bound = PrefixBound(picks.free_budget, picks.budget_unit, blocks.lengths.numpy())
        self._bound.value = math.inf if picks.upper_bound is None else picks.upper_bound

    def best(self) -> tuple[int, float]:
        """The open block with the highest gain, the lowest index among equals, and the gain in nats."""
        before = self._tiers.evaluations
        contenders = self._contenders()
        self._picks.evaluations += self._tiers.evaluations - before + len(contenders)
        if self._tiers.are_current and len(self._picks.indices) >= self._bound_due:
            self.update_bound()
        vectors = scaled(self._blocks.rows_of(contenders), self._regularization).cpu()
        gains = vector_gains(self._state.cholesky, vectors)
        best, best_gain = -1, -np.inf
        for i, gain in zip(contenders.tolist(), gains.tolist(), strict=True):
            if self._picks.beats(gain, best_gain):
                best, best_gain = i, gain
        assert best >= 0, "no open block is in question"
        return best, best_gain

    def add(self, index: int) -> None:
        """Add a chosen block to what gains are conditioned on."""
        self._state.add(scaled(self._blocks[index], self._regularization).cpu())

    def update_bound(self) -> None:
        """Bring the picks' upper bound up to date with what is known of all blocks."""
        if self._picks.required_left:
            return
        leverages = self._tiers.upper_bounds(len(self._blocks))
        leverages[self._picks.impossible] = 0.0
        leverages[self._picks.indices] = 0.0
        bounds = np.log1p(leverages) * (1 + TIE_WINDOW)
        self._bound.update(self._picks.gain, bounds, self._state.norm)
        self._picks.upper_bound = self._bound.value
        self._bound_due = len(self._picks.indices) + max(1, self._picks.free_budget // _BOUND_UPDATES)

    def _contenders(self) -> np.ndarray:
        """The open blocks that may have the highest gain, ascending; of those known as copies the lowest index."""
        if self._reopened:
            self._tiers.redraw(1, self._picks.open)
            self._reopened = self._picks.required_left  # when the last of them is chosen, all others open
        contenders, threshold = self._near_best()
        while (tier := self._tiers.outdated(threshold)) is not None:
            self._tiers.redraw(tier, self._picks.open)
            contenders, threshold = self._near_best()
        if len(contenders) > _MANY:
            self._note_copies(contenders)
            self._tiers.sharpen()
            contenders, _ = self._near_best()
        return contenders

    def _near_best(self) -> tuple[np.ndarray, float]:
        """The candidates of the last tier whose leverages reach a threshold, and that: the best one's lower bound."""
        members = self._tiers.members
        candidates = self._picks.open[members]
        if self._copied is not None:
            copied = self._copied[members]
            candidates &= (copied < 0) | ~self._picks.open[copied]
        lower, upper = self._tiers.intervals()
        threshold = reach(float(lower[candidates].max())) if candidates.any() else -np.inf
        return members[candidates & (upper >= threshold)], threshold

    def _note_copies(self, members: np.ndarray) -> None:
        """From now on, of those that are identical only the first that is open is a candidate."""
        if self._copied is None:
            self._copied = np.full(len(self._blocks), -1)
        last: dict[bytes, int] = {}
        rows = self._blocks.rows_of(members).cpu().contiguous().view(torch.uint8).numpy()
        for i, row in zip(members.tolist(), rows, strict=True):
            content = row.tobytes()
            self._copied[i] = last.get(content, -1)
            last[content] = i
