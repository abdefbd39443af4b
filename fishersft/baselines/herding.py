"""Herding: sentences whose features sum up to what the pool's do, as those of a uniform choice only nearly do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def herding(
    features: Array,
    lengths: Array,
    budget: int,
    *,
    mean: Array | None = None,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
    on_pick: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Greedy on how far the chosen sentences' features are from as many tokens of the pool.

        minimise |sum over chosen i of f_i - T mu|^2 / T,  T = tokens of the chosen

    Of a uniform choice of tokens this has the same expectation at every size, that of one token's |f - mu|^2, so less
    is better than chance. With the gradients of the loss as features the chosen sentences pull a model where the whole
    pool would ("gradient matching").

    Args:
        features: (n, dim), numbers; of each sentence the sum over its tokens, such as gradient sketches.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        mean: (dim,), mu, of a token of what the choice is for; None: the pool's own.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.
        on_pick: called after each pick with the picks and tokens so far.

    Returns:
        (k,), int64; positions in `features`, in the order chosen; among equals the lower first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a feature that is not finite, or no sentence
            holds a token.

    Cost: n dim a pick.
    Source: Chen, Welling and Smola (2010), "Super-samples from kernel herding"; Killamsetty et al. (2021),
        "GRAD-MATCH", arXiv:2103.00123, for the use with gradients. The division by T is this project's.

    Example:
        >>> herding(np.array([[4.0, 0.0], [1.0, 1.0], [0.0, 3.0]]), np.array([1, 1, 1]), 1).tolist()
        [1]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    found = budgeted.vectors_of_candidates(features)
    counts = budgeted.lengths[budgeted.candidates].astype(np.float64)
    mu = found.sum(axis=0) / counts.sum() if mean is None else np.asarray(mean, dtype=np.float64)
    if mu.shape != found.shape[1:]:
        raise InputError(f"mean has shape {mu.shape}, the features have {found.shape[1]} dimensions")
    astray = found - counts[:, None] * mu
    alone = np.einsum("ij,ij->i", astray, astray)
    left = np.ones(len(counts), dtype=bool)
    residual, tokens, picks = np.zeros_like(mu), 0.0, list[int]()
    for _ in range(budgeted.most):
        after = (residual @ residual + 2 * (astray @ residual) + alone) / (tokens + counts)
        best = int(np.where(left, after, np.inf).argmin())
        picks.append(best)
        left[best] = False
        residual += astray[best]
        tokens += counts[best]
        if on_pick is not None:
            on_pick(len(picks), int(tokens))
        if budget_unit == "tokens" and tokens >= budget:
            break
    return budgeted.prefix(budgeted.candidates[picks])


def mismatch(features: np.ndarray, lengths: np.ndarray, chosen: np.ndarray, mean: np.ndarray) -> float:
    """How far the chosen sentences' features are from as many tokens of the pool, as a share of a uniform choice's.

        |sum over chosen i of f_i - T mu|^2 / T  over  (sum over all i of |f_i - t_i mu|^2) / (sum of t_i)

    Args:
        features, lengths: as of `herding`, of the whole pool.
        chosen: positions.
        mean: (dim,), mu.

    Returns:
        0 where they match; about 1 for a choice of sentences by chance.
    """
    astray = features - lengths[:, None] * mean
    by_chance = (astray**2).sum() / lengths.sum()
    return float((astray[chosen].sum(axis=0) ** 2).sum() / lengths[chosen].sum() / by_chance)
