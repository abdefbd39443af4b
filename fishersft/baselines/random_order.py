"""The choice that every method has to beat: at random."""

from __future__ import annotations

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.numerics.greedy import BudgetUnit


def uniform(lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0) -> np.ndarray:
    """A uniformly random selection: the first sentences of a seeded random order.

    Args:
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: of the order, >= 0. The order does not depend on the budget: a larger one extends a smaller one.

    Returns:
        (k,), int64; positions in `lengths`, in the order drawn.

    Raises:
        InputError: an argument out of its range, or no sentence holds a token.

    Cost: O(n).
    Source: what Deb et al. (2025), arXiv:2505.14826 compare with first.

    Example:
        >>> sorted(uniform(np.array([4, 0, 4]), 2).tolist())
        [0, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    return budgeted.prefix(np.random.default_rng(seed).permutation(budgeted.candidates))
