"""One trial: sentences chosen by every method under every budget, the model fitted to them, and its errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fishersft import baselines
from fishersft.experiments.softmax_regression import fit, probabilities
from fishersft.experiments.word_problem import WordProblem
from fishersft.numerics.selection import select

Chooser = Literal[
    "D-optimal", "Fisher-weighted", "V-optimal", "uniform", "density", "sentence-design", "clustering"
]


class Trial(NamedTuple):
    """The errors after choosing so many sentences by a method: over all sentences the largest, and the mean."""

    method: str
    budget: int
    max_error: float
    mean_error: float


def trials(
    problem: WordProblem, methods: Sequence[Chooser], budgets: Sequence[int], regularization: float, seed: int
) -> Iterator[Trial]:
    """Every method at every budget.

    All sentences have as many tokens, so what is equal in sentences is equal in tokens. Each choice under a smaller
    budget is the beginning of that under a larger one.

    Args:
        budgets: in sentences.
        regularization: lambda of the designs, in the units of the squared features.
        seed: of what draws.
    """
    for method in methods:
        order = chosen_order(problem, method, max(budgets), regularization, seed)
        for budget in budgets:
            estimate = fit(problem.vectors, problem.counts(order[:budget]), start=problem.theta)
            errors = problem.errors(estimate)
            yield Trial(method, budget, float(errors.max()), float(errors.mean()))


def chosen_order(problem: WordProblem, method: Chooser, budget: int, regularization: float, seed: int) -> np.ndarray:
    """The sentences that a method chooses, in its order: (budget,), int64."""
    blocks, lengths = problem.blocks, problem.lengths
    if method == "D-optimal":
        return select(blocks, budget, regularization=regularization).indices
    if method == "Fisher-weighted":
        likely = probabilities(problem.vectors, problem.theta)
        weights = (1 - (likely**2).sum(axis=1))[problem.words.ravel()]
        return select(blocks.weighted(weights.astype(np.float32)), budget, regularization=regularization).indices
    if method == "V-optimal":
        return select(blocks, budget, regularization=regularization, criterion="v-optimal", target=blocks).indices
    if method == "uniform":
        return baselines.uniform(lengths, budget, seed=seed)
    means = baselines.mean_embeddings(blocks)
    if method == "density":
        return baselines.density(means, lengths, budget, seed=seed)
    if method == "clustering":
        return baselines.clustering(means, lengths, budget, seed=seed)
    return baselines.sentence_d_optimal(means, lengths, budget, regularization=regularization)
