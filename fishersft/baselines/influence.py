"""LESS: the sentences whose training step would lower a target's loss most, by low-rank gradients of a warm-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.baselines.representations import cosine_similarities
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def influences(pool: Sequence[Array], target: Sequence[Array], learning_rates: Sequence[float]) -> np.ndarray:
    """How much a training step on each sentence would lower the loss of each target gradient: (targets, n), float64.

        influence_ti = sum over checkpoints c of rate_c cos(g_ct, G_ci)

    with g the target's plain gradients, and G those of the pool as Adam would step, both randomly projected.

    Args:
        pool: of each checkpoint (n, dim), numbers, see `fishersft.models.example_gradients.gradient_features`.
        target: of each checkpoint (targets, dim): a row an example, or a row a task with the mean of its examples'.
        learning_rates: the mean learning rate of the epoch that ended in each checkpoint.

    Raises:
        InputError: the numbers of checkpoints differ, or the shapes do; or every target gradient is zero.

    Cost: O(checkpoints targets n dim).
    Source: Xia et al. (2024), "LESS: Selecting Influential Data for Targeted Instruction Tuning", arXiv:2402.04333,
        definition 3.1.

    Example:
        >>> influences([np.eye(2), np.eye(2)], [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], [0.2, 0.1]).tolist()
        [[0.2, 0.1]]
    """
    if not len(pool) == len(target) == len(learning_rates) > 0:
        raise InputError(
            f"gradients of {len(pool)} checkpoints for the pool, {len(target)} for the target and "
            f"{len(learning_rates)} learning rates; give one of each for every checkpoint"
        )
    by_checkpoint = [
        rate * cosine_similarities(aims, vectors)
        for vectors, aims, rate in zip(pool, target, learning_rates, strict=True)
    ]
    return np.sum(by_checkpoint, axis=0)


def less(
    influence: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """LESS: the sentences with the greatest influence on any of the target's tasks.

        score_i = max over tasks of influence_ti

    Args:
        influence: (tasks, n), numbers; `influences` of the tasks' mean gradients. A target that names no tasks is one.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; columns of `influence`, highest score first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a score that is not finite, or no sentence
            holds a token.

    Cost: O(tasks n + n log n), beside the warm-up and a backward pass over each sentence at every checkpoint.
    Source: Xia et al. (2024), arXiv:2402.04333, section 4.2.

    Example:
        >>> less(np.array([[0.3, 0.1, 0.0], [0.0, 0.2, 0.5]]), np.array([5, 5, 5]), 2).tolist()
        [2, 0]
    """
    table = np.asarray(influence, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise InputError(f"influence must have shape (tasks, sentences) with a task or more, not {table.shape}")
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    scores = budgeted.values_of_candidates(table.max(axis=0), "influence")
    return budgeted.prefix(budgeted.ranked(-scores))
