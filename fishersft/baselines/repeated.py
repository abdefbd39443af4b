"""All sentences again and again: a small sample stretched to a budget."""

from __future__ import annotations

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.numerics.greedy import BudgetUnit


def repeated(lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0) -> np.ndarray:
    """Whole passes over all sentences, each in another random order; the budget cuts the last.

    It is what one trains on who has a target sample and no pool. Unlike other baselines it chooses a sentence more
    than once.

    Args:
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. Less than there are: a uniform choice of that many.
        budget_unit: "sentences" or "tokens".
        seed: of the orders, >= 0.

    Returns:
        (k,), int64; positions in `lengths`, pass by pass. Their number or total is that of `uniform`, as if the
            sentences never ended.

    Raises:
        InputError: an argument out of its range, or no sentence holds a token.

    Cost: O(k + n).

    Example:
        >>> np.bincount(repeated(np.array([10, 10, 10]), 7)).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
        True
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    sentences = budgeted.candidates
    a_pass = len(sentences) if budget_unit == "sentences" else int(budgeted.lengths[sentences].sum())
    rng = np.random.default_rng(seed)
    passes = [rng.permutation(sentences) for _ in range(budget // a_pass + 1)]
    return budgeted.prefix(np.concatenate(passes))
