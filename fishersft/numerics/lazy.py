"""Batched block lazy greedy: Algorithm 1's picks from a small part of its evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.certificates import PrefixBound
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import block_gain, scaled
from fishersft.numerics.local_picks import LocalPicks
from fishersft.numerics.looks import GainLooks
from fishersft.numerics.shortlist import Shortlist
from fishersft.numerics.state import InformationState
from fishersft.numerics.threads import one_blas_thread
from fishersft.numerics.twins import Twins, fingerprints

_FIRST_LOOKS = 16  # blocks looked at together; twice as many each time that was not enough
_ONE_BY_ONE = 4  # so many contenders are told apart without another look at them together
_BOUND_UPDATES = 200  # times in a run that the certificate is brought up to date


def lazy_greedy(
    blocks: Blocks,
    picks: Picks,
    *,
    regularization: float = 1.0,
    cholesky: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
    first_gains: np.ndarray | None = None,
) -> None:
    """Greedy by information gain, with the picks of `reference.naive_greedy`.

    A gain computed for a smaller selection bounds today's from above (submodularity). So per step only the
    blocks whose bound reaches the best gain seen are looked at again, the highest bounds first, a batch at a
    time: in float32, as intervals that allow for rounding; then those still in question in float64; then
    those that may tie one by one, by the same code for each, so that the lower index wins as in Algorithm 1.

    Args:
        blocks: the pool.
        picks: the budget and conditions; filled by this. With a start, it holds what was chosen so far.
        regularization: lambda > 0.
        cholesky: (dim, dim), float64; L with A_0 = lambda L L^T, where A_0 is more than lambda I.
        device: where gains are computed; factorisations of dim x dim stay on the CPU.
        first_gains: (n,), nats; at least the gain of each block over lambda I, where that is known.

    Cost: see `looks`; a few percent of Algorithm 1's evaluations on real embeddings.
    Source: Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions"; the batches and
    the intervals are this project's.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=2)
        >>> lazy_greedy(pool, picks)
        >>> picks.indices
        [1, 2]
    """
    with lazy_search(blocks, picks, regularization=regularization, cholesky=cholesky, device=device) as search:
        if first_gains is not None:
            search.know(first_gains)
        while picks.open.any():
            index, gain = search.best()
            if picks.take(index, gain):
                search.add(blocks[index])
        search.update_bound()


@contextmanager
def lazy_search(
    blocks: Blocks,
    picks: Picks | LocalPicks,
    *,
    regularization: float,
    cholesky: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[LazySearch]:
    """A `LazySearch`, and its threads for as long as it is in use."""
    start = torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky
    with one_blas_thread():
        search = LazySearch(blocks, picks, start, regularization, torch.device(device))
        try:
            yield search
        finally:
            search.close()


class LazySearch:
    """The best open block, step by step, from bounds on the gains of all. See `lazy_greedy` for the arguments."""

    def __init__(
        self,
        blocks: Blocks,
        picks: Picks | LocalPicks,
        cholesky: torch.Tensor,
        regularization: float,
        device: torch.device,
    ) -> None:
        self._blocks = blocks
        self._picks = picks
        self._regularization = regularization
        self._state = InformationState(cholesky, device)
        self._looks = GainLooks(blocks, self._state, regularization, device)
        self._twins = Twins(blocks, fingerprints(blocks))
        # all by kind: what is known of a block is known of its twins
        self._lower, self._upper = np.zeros(len(blocks)), np.full(len(blocks), np.inf)
        self._looked_at = np.full(len(blocks), -1)
        self._shortlist = Shortlist()
        self._look_number = 0
        self._reopened = True
        self._bound = PrefixBound(picks.free_budget, picks.budget_unit, blocks.lengths.numpy())
        self._bound_at = -1
        if picks.upper_bound is not None:
            self._bound.value = picks.upper_bound
        for index in picks.indices:
            self.add(blocks[index])

    def close(self) -> None:
        """End the threads."""
        self._looks.close()

    def know(self, bounds: np.ndarray) -> None:
        """Take (n,) nats as no less than the gains, before anything was looked at."""
        self._upper = bounds.copy()

    def best(self) -> tuple[int, float]:
        """The open block that has most of what the rule asks for, and its marginal gain in nats."""
        if self._reopened:
            self._refill()
            self._reopened = self._picks.required_left  # when the last of them is chosen, all others open
        candidates = self._twins.candidates(self._picks.open)
        threshold = self._look_at_the_highest(candidates, -np.inf, torch.float32)
        if len(self._contenders(candidates, threshold)) > _ONE_BY_ONE:
            threshold = self._look_at_the_highest(candidates, threshold, torch.float64)
        if not len(self._contenders(candidates, threshold)):
            # two precisions that disagree by more than either allows for: the better one decides
            self._upper[self._twins.original[candidates]] = np.inf
            threshold = self._look_at_the_highest(candidates, -np.inf, torch.float64)
        if self._bound_is_due():
            self.update_bound()
        best, best_gain, best_score = -1, 0.0, -np.inf
        for i in self._contenders(candidates, threshold).tolist():
            gain = block_gain(self._state.cholesky, scaled(self._blocks[i], self._regularization).cpu())
            self._picks.evaluations += 1
            if self._picks.beats(gain / self._picks.weights[i], best_score):
                best, best_gain, best_score = i, gain, gain / self._picks.weights[i]
        assert best >= 0, "no candidate reaches the best gain that was seen"
        return best, best_gain

    def add(self, block: torch.Tensor) -> None:
        """Add a chosen block, (tokens, dim), as it is in the pool, to what gains are conditioned on."""
        self._state.add(scaled(block, self._regularization).cpu())

    def update_bound(self) -> None:
        """Bring the picks' upper bound up to date with what is known of all blocks."""
        if self._picks.required_left:
            return
        self._bound.update(self._picks.gain, self.gain_bounds(), self.factor_norm)
        self._picks.upper_bound = self._bound.value
        self._bound_at = len(self._picks.indices)

    @property
    def factor_norm(self) -> float:
        """|L| of the information matrix now."""
        return self._state.norm

    def gain_bounds(self) -> np.ndarray:
        """(n,), nats; at least the marginal gain of each block now; 0 for the picks and where none is possible."""
        bounds = self._upper[self._twins.original]
        bounds[self._picks.impossible] = 0.0
        bounds[self._picks.indices] = 0.0
        return bounds

    def _bound_is_due(self) -> bool:
        every = max(1, self._picks.free_budget // _BOUND_UPDATES)
        return self._bound_at < 0 or len(self._picks.indices) - self._bound_at >= every

    def _look_at_the_highest(self, candidates: np.ndarray, threshold: float, dtype: torch.dtype) -> float:
        """Look at candidates until no bound of one not looked at reaches the best gain seen: the threshold."""
        self._look_number += 1
        looks = _FIRST_LOOKS
        while True:
            contenders = self._contenders(candidates, threshold)
            stale = contenders[self._looked_at[self._twins.original[contenders]] < self._look_number]
            if len(stale):
                batch = self._highest(stale, looks)
                kinds = self._twins.original[batch]
                self._lower[kinds], self._upper[kinds] = self._looks(kinds, dtype)
                self._looked_at[kinds] = self._look_number
                self._picks.evaluations += len(batch)
                threshold = max(threshold, float((self._lower[kinds] / self._picks.weights[batch]).max()))
                looks *= 2
            elif self._shortlist.others >= threshold and self._shortlist.others > -np.inf:
                self._shortlist.lengthen()
                self._refill()
            else:
                return threshold

    def _contenders(self, candidates: np.ndarray, threshold: float) -> np.ndarray:
        """The candidates on the shortlist whose bound reaches the threshold, ascending."""
        members = self._shortlist.members
        members = members[candidates[members]]
        return members[self._scores(members) >= threshold]

    def _highest(self, among: np.ndarray, size: int) -> np.ndarray:
        """Those with the highest bounds, or all that no bound is known of."""
        scores = self._scores(among)
        unknown = np.isinf(scores)
        if unknown.any():
            return among[unknown]
        return among if len(among) <= size else among[np.argpartition(-scores, size)[:size]]

    def _scores(self, members: np.ndarray) -> np.ndarray:
        return self._upper[self._twins.original[members]] / self._picks.weights[members]

    def _refill(self) -> None:
        self._shortlist.refill(self._scores(np.arange(len(self._upper))), self._picks.open)
