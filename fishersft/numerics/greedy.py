"""What the greedy algorithms share: the budget, the rule for ties, and the record of what was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

BudgetUnit = Literal["sentences", "tokens"]
Rule = Literal["gain", "gain per token"]
Progress = Callable[[int, int], None]

_TIE_RELATIVE = 1e-9  # gains as close as this are equal, so that picks do not hang on the order of a sum
_TIE_ABSOLUTE = 1e-15  # times dim and the information gain: the rounding of a log determinant


class Picks:
    """What a greedy run has chosen so far, and what it may still choose.

    A block may be chosen while it holds a token and its cost (1, or its tokens) fits what remains of the
    budget; as the budget only shrinks, a block that once did not fit is out for good.

    Args:
        lengths: (n,), int64; tokens in each block.
        dim: of the information matrix.
        budget: > 0, sentences or tokens.
        budget_unit: which of the two.
        rule: what the best block has most of.
        on_progress: called after each pick with what of the budget is spent, and all that can be.

    Attributes:
        open: (n,), bool; may still be chosen.
        indices, gains: the picks in order, and their marginal gains in nats.
        weights: (n,), float64; what a block's gain is divided by before it is compared, by the rule.
        evaluations: gains computed, kept by the algorithm.
        impossible: (n,), bool; in no selection within the budget: without tokens, or longer than all of it.
        upper_bound: on the information gain of any selection within the budget, where the algorithm proved one.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        dim: int,
        budget: int,
        budget_unit: BudgetUnit = "sentences",
        rule: Rule = "gain",
        on_progress: Progress | None = None,
    ) -> None:
        self.indices: list[int] = []
        self.gains: list[float] = []
        self.evaluations = 0
        self.information_gain = 0.0
        self.weights = np.maximum(lengths, 1.0) if rule == "gain per token" else np.ones(len(lengths))
        self._dim = dim
        self._costs = lengths if budget_unit == "tokens" else np.ones_like(lengths)
        self._spendable = min(budget, int(self._costs[lengths > 0].sum()))
        self._remaining = budget
        self._spent = 0
        self._on_progress = on_progress
        self.open = (lengths > 0) & (self._costs <= budget)
        self.impossible = ~self.open
        self.upper_bound: float | None = None

    def take(self, index: int, gain: float) -> None:
        """Record the next pick and spend its cost."""
        assert self.open[index], f"block {index} is not a candidate"
        self.indices.append(index)
        self.gains.append(gain)
        self.information_gain += gain
        self._remaining -= int(self._costs[index])
        self._spent += int(self._costs[index])
        self.open[index] = False
        self.open[self._costs > self._remaining] = False
        if self._on_progress is not None:
            self._on_progress(self._spent, self._spendable)

    def beats(self, gain: float, best: float) -> bool:
        """Whether one (weighted) gain exceeds another by more than rounding; if not, the lower index stays."""
        rounding = _TIE_ABSOLUTE * (self._dim + self.information_gain)
        return gain * (1 - _TIE_RELATIVE) > best + rounding
