"""One split of labelled texts: heads trained on what every method chooses of a pool, and measured on held-out texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np

from fishersft import baselines
from fishersft.errors import InputError
from fishersft.experiments.label_choice import DRAWN, LabelledPool, Method, chosen_examples
from fishersft.experiments.ridge_head import HeadProblem, held_out, tuned_ridge

MULTIPLES = (1, 2, 4)  # of each budget: where the uniform choice is measured, for its curve


class SplitDesign(NamedTuple):
    """How a split is drawn and what is measured on it.

    Attributes:
        pool, held_out: how many texts each gets, at random.
        budgets: in texts.
        draws: how many draws a method that draws is the mean of.
        ridges, folds: from which cross-validation on the first uniform draw chooses, for each budget anew.
    """

    pool: int
    held_out: int
    budgets: Sequence[int]
    draws: int
    ridges: Sequence[float]
    folds: int


class HeadOutcome(NamedTuple):
    """What the heads of a method reach: held-out nats a text, accuracy, and different labels among the chosen."""

    method: str
    budget: int
    ridge: float
    nats: float
    accuracy: float
    labels: float


def split_outcomes(
    features: np.ndarray, labels: np.ndarray, classes: int, design: SplitDesign, seed: int
) -> Iterator[HeadOutcome]:
    """Every method at every budget, and the uniform choice at 1, 2 and 4 times each.

    Features are standardised by the mean and the scale of the split's pool, each dimension by itself.

    Args:
        features: (n, dim), of all texts.
        labels: (n,), integers from 0 to `classes` - 1.
        seed: of the split, the draws and the folds.

    Raises:
        InputError: there are too few texts.

    Cost: for SmolLM2's 576 dimensions, 26 labels and a pool of 1,500 some 40 s, most of it cross-validation.
    """
    if len(features) < design.pool + design.held_out:
        raise InputError(
            f"a pool of {design.pool:,} and {design.held_out:,} held-out texts were asked for, but there are only "
            f"{len(features):,}; lower `pool` or `held_out`"
        )
    order = np.random.default_rng(seed).permutation(len(features))
    inside, outside = order[: design.pool], order[design.pool : design.pool + design.held_out]
    mean, scale = features[inside].mean(axis=0), features[inside].std(axis=0)
    standardised = (features - mean) / np.where(scale > 0, scale, 1.0)
    pool = LabelledPool(standardised[inside], labels[inside], classes)
    seeds = [seed * design.draws + draw for draw in range(design.draws)]
    for size in sorted({budget * multiple for budget in design.budgets for multiple in MULTIPLES}):
        draws = [baselines.uniform(pool.ones, size, seed=drawn) for drawn in seeds]
        first = draws[0]
        ridge = tuned_ridge(pool.features[first], pool.labels[first], classes, design.ridges, design.folds, seed)
        choices: dict[str, list[np.ndarray]] = {"uniform": draws}
        for method in get_args(Method) if size in design.budgets else ():
            own = seeds if method in DRAWN else seeds[:1]
            choices[method] = [chosen_examples(pool, method, size, ridge, drawn) for drawn in own]
        for name, chosen in choices.items():
            found = [_measured(pool, some, ridge, standardised[outside], labels[outside]) for some in chosen]
            yield HeadOutcome(name, size, ridge, *(float(figure) for figure in np.mean(found, axis=0)))


def _measured(
    pool: LabelledPool, chosen: np.ndarray, ridge: float, features: np.ndarray, labels: np.ndarray
) -> tuple[float, float, int]:
    """Held-out nats a text, accuracy, and different labels, of the head that is trained on a choice."""
    head = HeadProblem(pool.features[chosen], pool.labels[chosen], pool.classes).fit(ridge)
    nats, accuracy = held_out(features, labels, head)
    return float(nats.mean()), accuracy, len(np.unique(pool.labels[chosen]))
