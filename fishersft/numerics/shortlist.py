"""The blocks with the highest bounds, so that a step of a long run need not go over the whole pool."""

from __future__ import annotations

import numpy as np

_LENGTH = 4096


class Shortlist:
    """The candidates with the highest scores, and the highest score of all others.

    Scores never rise, so what is true of the others stays true until `refill`.

    Attributes:
        members: (m,), int64; block numbers, ascending.
        others: no block outside has a higher score than this; -infinity where there is none outside.
    """

    def __init__(self) -> None:
        self.members = np.empty(0, dtype=np.int64)
        self.others = np.inf
        self._length = _LENGTH

    def refill(self, scores: np.ndarray, candidates: np.ndarray) -> None:
        """Choose anew, among the candidates; unknown scores (infinity) are all in."""
        among = np.flatnonzero(candidates)
        values = scores[among]
        length = max(self._length, int(np.isinf(values).sum()))
        if len(among) <= length:
            self.members, self.others = among, -np.inf
            return
        order = np.argpartition(-values, length)
        self.members = np.sort(among[order[:length]])
        self.others = float(values[order[length:]].max())

    def lengthen(self) -> None:
        """Twice as many from the next `refill` on: these were too few for one step."""
        self._length *= 2
