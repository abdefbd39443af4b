"""Round robin: the examples of a target take turns, each with the best that is still there."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def round_robin(
    scores: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """The sentences that a target's examples choose in turn: each takes its best that is still there.

        pick k = argmax over i not yet chosen of scores[k mod targets, i]

    So every example of the target has an equal say, where a mean or maximum over them would spend the budget on those
    with the highest scores.

    Args:
        scores: (targets, n), numbers; how well each sentence serves each example of the target, higher is better.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect, equals go to the lower position; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `lengths`, in the order chosen.

    Raises:
        InputError: an argument out of its range, shapes that differ, a score that is not finite, or no sentence
            holds a token.

    Cost: O(targets n log n) time; targets x picks integers of memory beside the scores.
    Source: Ivison et al. (2025), "Large-Scale Data Selection for Instruction Tuning", arXiv:2503.01807.

    Example:
        >>> round_robin(np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.3]]), np.array([5, 5, 5]), 3).tolist()
        [0, 2, 1]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    if len(np.shape(scores)) != 2 or not len(scores):
        raise InputError(f"scores must have shape (targets, sentences) with a target, not {tuple(np.shape(scores))}")
    most = budgeted.most
    # Others have taken fewer than `most` when a target takes its turn, so its first `most` always hold one more.
    wanted = [
        iter(np.argsort(-budgeted.values_of_candidates(row, "scores"), kind="stable")[:most].tolist())
        for row in scores[:most]
    ]
    picks: dict[int, None] = {}
    for target in islice(cycle(wanted), most):
        picks[next(place for place in target if place not in picks)] = None
    return budgeted.prefix(budgeted.candidates[list(picks)])
