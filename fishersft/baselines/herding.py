"""Herding: sentences whose features sum up to what the pool's do, as those of a uniform choice only nearly do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit, room_of_groups


def herding(
    features: Array,
    lengths: Array,
    budget: int,
    *,
    mean: Array | None = None,
    already_chosen: tuple[Array, int] | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
    quotas: Mapping[Any, int] | None = None,
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
        mean: (dim,), mu, of a token of what the choice is for; None: of the sentences that hold a token.
        already_chosen: of sentences that were chosen before and count in the sum, not in the budget: (dim,), the sum of
            their features, and their tokens. Their own lengths are 0 here, so that they are not chosen again.
        groups, quotas: the group of each sentence, and for some groups how many sentences of it may be chosen at most.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.
        on_pick: called after each pick with the picks and tokens so far.

    Returns:
        (k,), int64; positions in `features`, in the order chosen; among equals the lower first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a feature that is not finite, no sentence
            holds a token, a quota of no group, or quotas that leave nothing to choose.

    Cost: n dim a pick; 8 bytes a number in memory, twice that where a sentence holds no token.
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
    total, before = _checked(already_chosen, mu)
    residual, tokens = total - before * mu, before
    alone = _astray(found, counts, mu)
    group, room = room_of_groups(groups, quotas or {}, len(budgeted.lengths))
    group = group[budgeted.candidates]
    left = room[group] > 0
    if not left.any():
        raise InputError("quotas leave no sentence that holds a token; loosen them")
    picks = list[int]()
    for _ in range(budgeted.most):
        drift = found @ residual - counts * (mu @ residual)
        after = (residual @ residual + 2 * drift + alone) / (tokens + counts)
        best = int(np.where(left, after, np.inf).argmin())
        picks.append(best)
        left[best] = False
        room[group[best]] -= 1
        if not room[group[best]]:
            left &= group != group[best]
        residual += found[best] - counts[best] * mu
        tokens += counts[best]
        spent = int(tokens - before)
        if on_pick is not None:
            on_pick(len(picks), spent)
        if not left.any() or (budget_unit == "tokens" and spent >= budget):
            break
    return budgeted.prefix(budgeted.candidates[picks])


def mismatch(
    features: np.ndarray,
    lengths: np.ndarray,
    chosen: np.ndarray,
    mean: np.ndarray,
    already_chosen: tuple[Array, int] | None = None,
) -> float:
    """How far the chosen sentences' features are from as many tokens of the pool, as a share of a uniform choice's.

        |sum over chosen i of f_i - T mu|^2 / T  over  (sum over all i of |f_i - t_i mu|^2) / (sum of t_i)

    Args:
        features, lengths, already_chosen: as of `herding`, of the whole pool.
        chosen: positions.
        mean: (dim,), mu.

    Returns:
        0 where they match; about 1 for a choice of sentences by chance.
    """
    total, tokens = _checked(already_chosen, mean)
    total, tokens = total + features[chosen].sum(axis=0), tokens + lengths[chosen].sum()
    by_chance = _astray(features, lengths, mean).sum() / lengths.sum()
    return float(((total - tokens * mean) ** 2).sum() / tokens / by_chance)


def _checked(already_chosen: tuple[Array, int] | None, mu: np.ndarray) -> tuple[np.ndarray, float]:
    """The sum of features and the tokens of what was chosen before, zeros where that is nothing."""
    if already_chosen is None:
        return np.zeros_like(mu), 0.0
    total, tokens = np.asarray(already_chosen[0], dtype=np.float64), already_chosen[1]
    if total.shape != mu.shape or not np.isfinite(total).all() or tokens < 0:
        raise InputError(
            f"already_chosen must be {len(mu)} finite numbers and how many tokens they are of, not an array of shape "
            f"{total.shape} and {tokens}"
        )
    return total, float(tokens)


def _astray(features: np.ndarray, counts: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """|f_i - t_i mu|^2 of each sentence, without a second array as large as the features."""
    squares = np.einsum("ij,ij->i", features, features)
    return squares - 2 * counts * (features @ mu) + counts**2 * (mu @ mu)
