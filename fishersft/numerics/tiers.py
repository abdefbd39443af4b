"""The vectors with the highest leverages, of those the ones with the highest, and so on: each tier read more seldom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fishersft.numerics.leverages import Leverages
from fishersft.numerics.state import VectorState
from fishersft.numerics.threads import torch_threads

_SHARE = 16  # a tier holds this part of the one before,
_LEAST = 1024  # but no fewer vectors than this
TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie


@dataclass
class _Tier:
    """Some vectors: their block numbers, ascending, and their leverages as of when these were last up to date.

    `others`: the leverage of no open vector of the tier before that is not in this one is higher, now or later.
    """

    members: np.ndarray
    leverages: Leverages
    others: float
    drawn_at: int  # of the state's columns


class Tiers:
    """Leverages of a pool, so that the highest are at hand at every pick and the others are seldom read.

    Leverages only fall. So what bounded those outside a tier when it was drawn up bounds them ever after, and as long
    as the best within is above that, the tier before need not be looked at.

    Args:
        members: (n,), int64, ascending; the block numbers of the vectors.
        vectors: (n, dim), float32, on the device that computes.
        state: the information matrix, shared with whoever adds to it.
        scale: what vectors are multiplied by before use.
        threads: torch's, for passes over the larger tiers. The last is small: there one thread is quickest.

    Attributes:
        evaluations: leverages computed so far.
    """

    def __init__(
        self, members: np.ndarray, vectors: torch.Tensor, state: VectorState, scale: float, threads: int
    ) -> None:
        self._state = state
        self._threads = threads
        self._sizes = [len(members)]
        while self._sizes[-1] > 2 * _LEAST:
            self._sizes.append(max(_LEAST, self._sizes[-1] // _SHARE))
        with torch_threads(threads):
            self._tiers = [_Tier(members, Leverages(vectors, state, scale), -np.inf, 0)]
        self.evaluations = len(members)

    @property
    def members(self) -> np.ndarray:
        """(m,), int64, ascending; the block numbers of the last tier."""
        return self._tiers[-1].members

    @property
    def are_current(self) -> bool:
        """Whether all leverages are up to date, not only those of the last tier."""
        return all(tier.leverages.are_current for tier in self._tiers)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds on the leverages of the last tier, brought up to date: (m,) each, float32."""
        last = self._tiers[-1].leverages
        last.catch_up()
        self.evaluations += len(last)
        return last.lower(), last.upper()

    def sharpen(self) -> bool:
        """Clear the rounding in the last tier, if so much has added up that this pays. Returns whether."""
        return self._tiers[-1].leverages.sharpen()

    def outdated(self, threshold: float) -> int | None:
        """The first tier outside of which a leverage may reach the threshold; None if there is none.

        What is outside of a tier that was drawn up since the last pick is out of question: see `_draw`.
        """
        for number, tier in enumerate(self._tiers):
            if number and tier.others >= threshold and tier.drawn_at < self._state.columns:
                return number
        return None

    def redraw(self, first: int, open_: np.ndarray) -> None:
        """Draw up the tiers from number `first` on anew, of open blocks: (n blocks,), bool."""
        del self._tiers[first:]
        with torch_threads(self._threads):
            for size in self._sizes[first:]:
                self._tiers.append(self._draw(self._tiers[-1], size, open_))

    def upper_bounds(self, blocks: int) -> np.ndarray:
        """(blocks,), float64, >= 0; no leverage is higher than this. 0 for blocks without a vector."""
        bounds = np.zeros(blocks)
        for tier in self._tiers:
            bounds[tier.members] = tier.leverages.upper()
        return bounds.clip(min=0.0)

    def _draw(self, before: _Tier, size: int, open_: np.ndarray) -> _Tier:
        """The open vectors with the highest leverages: so many, or all that may have the highest if they are more."""
        before.leverages.catch_up()
        self.evaluations += len(before.members)
        candidates = np.flatnonzero(open_[before.members])
        upper, in_question = self._in_question(before, candidates)
        if in_question > size // 2 and before.leverages.sharpen():
            upper, in_question = self._in_question(before, candidates)
        size, others = max(size, in_question), -np.inf
        if len(candidates) > size:
            order = np.argpartition(-upper, size)
            others = float(upper[order[size]])
            candidates = np.sort(candidates[order[:size]])
        positions = torch.from_numpy(candidates).to(before.leverages.device)
        return _Tier(before.members[candidates], before.leverages.subset(positions), others, self._state.columns)

    def _in_question(self, tier: _Tier, candidates: np.ndarray) -> tuple[np.ndarray, int]:
        """The upper bounds of the candidates, and how many of them may have the highest leverage."""
        lower, upper = tier.leverages.lower()[candidates], tier.leverages.upper()[candidates]
        return upper, int(np.count_nonzero(upper >= reach(float(lower.max(initial=0.0)))))


def reach(best: float) -> float:
    """What the leverage of a vector reaches that may be as good as the best, whose leverage is no less than `best`."""
    return max(0.0, best * (1 - TIE_WINDOW))
