"""What two orders of a pair say together, and how well two judges agree beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fishersft.errors import InputError

Column = Sequence[float] | np.ndarray


def pair_scores(choices: Column, swapped_choices: Column) -> np.ndarray:
    """Scores of the first-named method: 1 win, 0 loss, 0.5 tie, float64 (pairs,).

    Args:
        choices: (pairs,); the place that was named, 1 or 2, with the method's text first; 0: none.
        swapped_choices: (pairs,); the same with the method's text second.

    A judge that prefers another text when the order changes has shown a preference for a place: a tie, as is an
    answer that names none.

    Example:
        >>> pair_scores([1, 2, 1, 0], [2, 1, 1, 2]).tolist()
        [1.0, 0.0, 0.5, 0.5]
    """
    choices, swapped_choices = np.asarray(choices), np.asarray(swapped_choices)
    wins = (choices == 1) & (swapped_choices == 2)
    losses = (choices == 2) & (swapped_choices == 1)
    return np.where(wins, 1.0, np.where(losses, 0.0, 0.5))


def cohen_kappa(ratings: Column, other_ratings: Column) -> float:
    """The agreement of two raters beyond what chance would give: 1 in all, 0 as by chance, below 0 less.

        kappa = (p_o - p_e) / (1 - p_e),  p_e = sum over categories of p(category) q(category)

    with p_o the share of items rated the same, p and q the raters' shares of each category.

    Args:
        ratings: (items,); each a category; here a win, a loss or a tie.
        other_ratings: (items,); those of the other rater, of the same items in order.

    Returns:
        NaN where both give one and the same rating throughout: chance alone would agree as well.

    Raises:
        InputError: no items, or the numbers of ratings differ.

    Source: Cohen (1960), "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20.

    Example:
        >>> yes_yes, yes_no, no_yes, no_no = 20, 5, 10, 15  # p_o 0.7, p_e 0.5 * 0.6 + 0.5 * 0.4 = 0.5
        >>> first = [1] * (yes_yes + yes_no) + [0] * (no_yes + no_no)
        >>> second = [1] * yes_yes + [0] * yes_no + [1] * no_yes + [0] * no_no
        >>> round(cohen_kappa(first, second), 12)
        0.4
    """
    ratings, other_ratings = np.asarray(ratings), np.asarray(other_ratings)
    if ratings.shape != other_ratings.shape or ratings.ndim != 1 or not len(ratings):
        raise InputError(
            f"expected two raters' ratings of the same items, at least one; the shapes are {ratings.shape} and "
            f"{other_ratings.shape}"
        )
    observed = float((ratings == other_ratings).mean())
    categories = np.unique(np.concatenate([ratings, other_ratings]))
    expected = float(sum((ratings == c).mean() * (other_ratings == c).mean() for c in categories))
    return math.nan if len(categories) == 1 else (observed - expected) / (1 - expected)
