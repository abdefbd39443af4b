"""Sampling by groups: from every group of the pool its share, or from all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.numerics.greedy import BudgetUnit


def stratified(
    strata: Sequence[str] | np.ndarray,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
) -> np.ndarray:
    """A random selection in which each stratum has its share: proportional allocation, uniform within a stratum.

        the j-th sentence (j = 0, 1, ..) of a stratum of n_c sentences has its turn at (j + 1/2) / n_c

    So every prefix holds the strata in proportion to their sizes up to rounding (Sainte-Laguë's rule), and a larger
    budget extends a smaller one, which the largest remainder's rule would not do. As sentences are drawn uniformly
    within a stratum, its share of the tokens is in proportion too, in the mean over seeds. Equal turns come in random
    order.

    Args:
        strata: (n,), text or integers; the stratum of each sentence, such as the value of a column.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: of the order, >= 0.

    Returns:
        (k,), int64; positions in `lengths`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, or no sentence holds a token.

    Cost: O(n log n), and O(n) for each stratum.
    Source: Neyman (1934) for proportional allocation; Sainte-Laguë (1910) for the rounding.

    Example:
        >>> chosen = stratified(["a", "a", "a", "a", "b", "b"], np.full(6, 9), 3)
        >>> sorted("aaaabb"[place] for place in chosen)
        ['a', 'a', 'b']
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    order = proportional_order(budgeted.labels_of_candidates(strata, "strata"), np.random.default_rng(seed))
    return budgeted.prefix(budgeted.candidates[order])


def balanced(
    groups: Sequence[str] | np.ndarray,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
) -> np.ndarray:
    """A random selection with equally many sentences of each group: equal allocation, uniform within a group.

        the j-th sentence (j = 0, 1, ..) of every group has its turn at j

    The groups take turns, in a new random order each round, so the counts of any two differ by at most one in every
    prefix, and a larger budget extends a smaller one. A group that has run out drops out. Equal are the sentences: a
    group with longer ones has more of the tokens.

    Args:
        groups: (n,), text or integers; the group of each sentence, such as the task in a column.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: of the order, >= 0.

    Returns:
        (k,), int64; positions in `lengths`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, or no sentence holds a token.

    Cost: O(n log n), and O(n) for each group.
    Source: "equal mixing" of tasks in Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", arXiv:1910.10683, section 3.5.2, which draws each example's task at random; here they
    take turns, without replacement.

    Example:
        >>> chosen = balanced(["a", "a", "a", "a", "b", "b"], np.full(6, 9), 4)
        >>> sorted("aaaabb"[place] for place in chosen)
        ['a', 'a', 'b', 'b']
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    order = _in_turns(budgeted.labels_of_candidates(groups, "groups"), np.random.default_rng(seed), np.arange)
    return budgeted.prefix(budgeted.candidates[order])


def proportional_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All positions in an order whose every prefix has each label in proportion: (m,), int64."""
    return _in_turns(labels, rng, lambda size: (np.arange(size) + 0.5) / size)


def _in_turns(labels: np.ndarray, rng: np.random.Generator, turns_of: Callable[[int], np.ndarray]) -> np.ndarray:
    """All positions, those of each label in random order and at the turns of a label of that size: (m,), int64."""
    shuffled = rng.permutation(len(labels))
    turns = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        turns[members] = turns_of(len(members))
    return shuffled[np.lexsort((rng.uniform(size=len(turns)), turns))]
