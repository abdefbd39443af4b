"""A perfect filter: a control for experiments that know which sentences are good."""

from __future__ import annotations

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.baselines.random_order import uniform
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def perfect_filter(
    good: np.ndarray, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """A uniformly random selection of the sentences that are known to be good.

    What it gains over a uniform choice of the whole pool is what filtering alone can gain there.

    Args:
        good: (n,), bool; which sentences may be chosen.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all good sentences.
        budget_unit: "sentences" or "tokens".
        seed: of the draw, >= 0.

    Returns:
        (k,), int64; positions in `good`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, or no good sentence holds a token.

    Cost: O(n).

    Example:
        >>> sorted(perfect_filter(np.array([True, False, True]), np.array([5, 5, 5]), 9).tolist())
        [0, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    if good.dtype != bool or good.shape != budgeted.lengths.shape:
        raise InputError(
            f"good must be bool of shape ({len(budgeted.lengths)},), one a sentence, not {good.dtype} of shape "
            f"{good.shape}"
        )
    if not good[budgeted.candidates].any():
        raise InputError("no good sentence holds a token, so there is nothing to choose from")
    return uniform(np.where(good, budgeted.lengths, 0), budget, budget_unit=budget_unit, seed=seed)
