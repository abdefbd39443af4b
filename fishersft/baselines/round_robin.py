"""Round robin over the examples of a target: how methods that compare with each of them share a budget."""

from __future__ import annotations

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def round_robin(
    scores: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """The target's examples take turns, and each takes its highest-scoring sentence that is still there.

    Args:
        scores: (targets, n), numbers; how much each sentence of the pool suits each target example.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; columns of `scores`, in the order taken. Of equal scores the lower column is taken first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a score that is not finite, or no sentence
            holds a token.

    Cost: O(targets n log n).
    Source: Ivison et al. (2025), "Large-Scale Data Selection for Instruction Tuning", arXiv:2503.01807, section 3.

    Example:
        >>> round_robin(np.array([[0.9, 0.8, 0.1], [0.7, 0.6, 0.5]]), np.array([5, 5, 5]), 2).tolist()
        [0, 1]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) == 0:
        raise InputError(f"scores must have shape (targets, sentences) with a target or more, not {table.shape}")
    orders = [np.argsort(-budgeted.values_of_candidates(row, "scores"), kind="stable") for row in table]
    places, taken, order = [0] * len(orders), np.zeros(len(budgeted.candidates), dtype=bool), list[int]()
    while len(order) < budgeted.most:
        turn = len(order) % len(orders)
        while taken[orders[turn][places[turn]]]:
            places[turn] += 1
        order.append(int(orders[turn][places[turn]]))
        taken[order[-1]] = True
    return budgeted.prefix(budgeted.candidates[order])
