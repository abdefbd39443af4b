"""Ways to choose labelled examples for a classifier head; the variants of matching are tried here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fishersft import baselines
from fishersft.experiments.ridge_head import HeadProblem, gradient_rows, with_constant

Method = Literal[
    "gradient matching",
    "stratified",
    "D-optimal",
    "two-round matching",
    "whitened matching",
    "matching with label quotas",
    "matching with log-det",
]
PRIMARY: Method = "gradient matching"
DRAWN = ("uniform", "stratified")  # at random, so they are measured as the mean over several draws


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """What is chosen from.

    Attributes:
        features: (n, dim), float64, standardised.
        labels: (n,), integers from 0 to `classes` - 1. All methods but uniform and D-optimal read them.
        classes: how many there are.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: int

    @property
    def ones(self) -> np.ndarray:
        """A length for each example, as all count the same: (n,), int64."""
        return np.ones(len(self.labels), dtype=np.int64)

    @cached_property
    def first_gradients(self) -> np.ndarray:
        """Gradients before anything is learnt, all classes alike: (n, n), see `gradient_rows`."""
        return gradient_rows(self.features, self.labels, np.zeros((self.features.shape[1] + 1, self.classes)))


def chosen_examples(pool: LabelledPool, method: Method, budget: int, ridge: float, seed: int) -> np.ndarray:
    """The positions of the examples that a method chooses: (budget,), int64.

    Args:
        budget: in examples.
        ridge: of the head between two rounds.
        seed: of what draws.

    Cost: that of `gradient_rows`, and budget n^2.
    Source: `baselines` names that of each method; the variants of matching are this project's.
    """
    ones, gradients = pool.ones, pool.first_gradients
    choosers: dict[Method, Callable[[], np.ndarray]] = {
        "gradient matching": lambda: baselines.herding(gradients, ones, budget),
        "stratified": lambda: baselines.stratified(pool.labels, ones, budget, seed=seed),
        "D-optimal": lambda: baselines.sentence_d_optimal(with_constant(pool.features), ones, budget),
        "two-round matching": lambda: two_rounds(pool, budget, ridge),
        "whitened matching": lambda: baselines.herding(whitened(gradients), ones, budget),
        "matching with label quotas": lambda: _with_quotas(pool, budget),
        "matching with log-det": lambda: matching_with_log_det(gradients, with_constant(pool.features), budget),
    }
    return choosers[method]()


def whitened(rows: np.ndarray) -> np.ndarray:
    """Rows with about the same energy in each direction; the mean energy is added, so that weak ones stay weaker.

        z_k / sqrt(m_k + mean of m),  m_k the pool's second moment in principal direction k

    Args:
        rows: (n, n), in their principal directions, as `gradient_rows` gives.
    """
    moments = (rows**2).mean(axis=0)
    found: np.ndarray = rows / np.sqrt(moments + moments.mean())
    return found


def matching_with_log_det(rows: np.ndarray, features: np.ndarray, budget: int, weight: float = 1.0) -> np.ndarray:
    """Greedy on matching gradients less a weight times the information gain of the features.

        argmin_i  |sum over chosen j of (z_j - mu) + z_i - mu|^2 / sigma^2  -  weight log(1 + x_i^T A^-1 x_i)

    with sigma^2 the mean of |z - mu|^2, by which a uniform choice's error grows with each example, and A = I + sum over
    chosen x x^T. With weight 0 it is `baselines.herding` of examples that count the same.

    Args:
        rows: (n, k), z; gradients.
        features: (n, dim), x.
        budget: in examples, at most n.
        weight: >= 0.

    Returns:
        (budget,), int64; among equals the lower first.

    Cost: n (k + dim) + dim^2 a pick.
    """
    centred = rows - rows.mean(axis=0)
    squares = (centred**2).sum(axis=1)
    residual, inverse = np.zeros(rows.shape[1]), np.eye(features.shape[1])
    leverages = (features**2).sum(axis=1)
    chosen = list[int]()
    for _ in range(budget):
        errors = (residual @ residual + 2 * centred @ residual + squares) / squares.mean()
        costs = errors - weight * np.log1p(leverages)
        costs[chosen] = np.inf
        best = int(costs.argmin())
        chosen.append(best)
        residual += centred[best]
        step = inverse @ features[best] / np.sqrt(1 + leverages[best])
        inverse -= np.outer(step, step)
        leverages = (leverages - (features @ step) ** 2).clip(min=0.0)
    return np.array(chosen, dtype=np.int64)


def two_rounds(pool: LabelledPool, budget: int, ridge: float) -> np.ndarray:
    """Half of the budget by matching, and the rest by matching the gradients at the head that is fitted to that half.

    The first half's gradients at that head count in the sum. Choosing all of the budget anew there would choose the
    first half again: it is fitted, so its gradients are near zero, which leaves the sum where it was.

    Args:
        budget: in examples, at least 2.
        ridge: of the head.
    """
    first = baselines.herding(pool.first_gradients, pool.ones, budget // 2)
    head = HeadProblem(pool.features[first], pool.labels[first], pool.classes).fit(ridge)
    gradients = gradient_rows(pool.features, pool.labels, head)
    left = pool.ones
    left[first] = 0
    second = baselines.herding(
        gradients,
        left,
        budget - len(first),
        mean=gradients.mean(axis=0),
        already_chosen=(gradients[first].sum(axis=0), len(first)),
    )
    return np.concatenate([first, second])


def _with_quotas(pool: LabelledPool, budget: int) -> np.ndarray:
    """Matching in which every label has its share of the budget, as in a stratified choice."""
    shares = np.bincount(pool.labels[baselines.stratified(pool.labels, pool.ones, budget)], minlength=pool.classes)
    quotas = {label: int(share) for label, share in enumerate(shares) if label in pool.labels}
    return baselines.herding(pool.first_gradients, pool.ones, budget, groups=pool.labels, quotas=quotas)
