"""The picks of a run over many processes, as one of them needs them for its own blocks."""

from __future__ import annotations

import numpy as np

from fishersft.numerics.greedy import Picks


class LocalPicks:
    """What `LazySearch` needs of `Picks`, for the blocks first .. last - 1, numbered from 0.

    Args:
        picks: of the whole run; the same in every process.
        first, last: of this process's blocks.

    Attributes:
        indices: the picks among these blocks.
        evaluations: gains computed in this process.
        upper_bound: unused; a bound is of all blocks.
        budget_unit, free_budget: of the whole run.
    """

    def __init__(self, picks: Picks, first: int, last: int) -> None:
        self._picks = picks
        self._own = slice(first, last)
        self.indices = [index - first for index in picks.indices if first <= index < last]
        self.evaluations = 0
        self.upper_bound: float | None = None
        self.budget_unit = picks.budget_unit
        self.free_budget = picks.free_budget

    @property
    def open(self) -> np.ndarray:
        """As of `Picks`."""
        return self._picks.open[self._own]

    @property
    def weights(self) -> np.ndarray:
        """As of `Picks`."""
        return self._picks.weights[self._own]

    @property
    def impossible(self) -> np.ndarray:
        """As of `Picks`."""
        return self._picks.impossible[self._own]

    @property
    def gain(self) -> float:
        """Of all picks, in every process."""
        return self._picks.gain

    @property
    def required_left(self) -> bool:
        """Whether blocks that must be included are still to be chosen, in any process."""
        return self._picks.required_left

    def beats(self, gain: float, best: float) -> bool:
        """As of `Picks`."""
        return self._picks.beats(gain, best)

    def take(self, index: int, gain: float) -> bool:
        """As of `Picks`; the index is of all blocks."""
        taken = self._picks.take(index, gain)
        if taken and self._own.start <= index < self._own.stop:
            self.indices.append(index - self._own.start)
        return taken
