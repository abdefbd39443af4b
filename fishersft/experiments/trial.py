"""One trial: sentences chosen by every method under every budget, the model fitted to them, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from fishersft import baselines
from fishersft.experiments.moment_greedy import moment_greedy
from fishersft.experiments.softmax_regression import fit, probabilities
from fishersft.experiments.word_problem import WordProblem
from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.selection import select

_FIRST_ROUND = 200  # sentences, whatever the budget

Chooser = Literal[
    "D-optimal",
    "Fisher-weighted",
    "V-optimal",
    "gradient-matching",
    "two-round matching",
    "uniform",
    "density",
    "sentence-design",
    "clustering",
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

    def v_optimal() -> np.ndarray:
        return select(blocks, budget, regularization=regularization, criterion="v-optimal", target=blocks).indices

    def by_mean(choose: Callable[..., np.ndarray], **settings: Any) -> np.ndarray:
        return choose(baselines.mean_embeddings(blocks), lengths, budget, **settings)

    choosers: dict[Chooser, Callable[[], np.ndarray]] = {
        "D-optimal": lambda: moment_greedy(blocks, budget, regularization),
        "Fisher-weighted": lambda: moment_greedy(_weighted(problem), budget, regularization),
        "V-optimal": v_optimal,
        "gradient-matching": lambda: _matching(problem, budget),
        "two-round matching": lambda: _two_rounds(problem, budget),
        "uniform": lambda: baselines.uniform(lengths, budget, seed=seed),
        "density": lambda: by_mean(baselines.density, seed=seed),
        "sentence-design": lambda: by_mean(baselines.sentence_d_optimal, regularization=regularization),
        "clustering": lambda: by_mean(baselines.clustering, seed=seed),
    }
    return choosers[method]()


def _weighted(problem: WordProblem) -> TokenBlocks:
    """The blocks, each token weighted by how uncertain the true model is of it: 1 - sum of p^2."""
    weights = 1 - (probabilities(problem.vectors, problem.theta) ** 2).sum(axis=1)
    return problem.blocks.weighted(torch.from_numpy(weights[problem.words.ravel()]))


def _matching(problem: WordProblem, budget: int, theta: np.ndarray | None = None) -> np.ndarray:
    """Gradient matching, by the gradients at parameters; None: before anything is learnt, all classes alike."""
    gradients = _gradients(problem, np.zeros_like(problem.theta) if theta is None else theta)
    return baselines.herding(gradients, problem.lengths, budget)


def _two_rounds(problem: WordProblem, budget: int) -> np.ndarray:
    """Gradient matching by the gradients of what was fitted to a first choice, which is then forgotten."""
    first = _matching(problem, _FIRST_ROUND)
    return _matching(problem, budget, fit(problem.vectors, problem.counts(first)))


def _gradients(problem: WordProblem, theta: np.ndarray) -> np.ndarray:
    """The gradient of each sentence's loss at parameters (dim, classes): (sentences, dim classes)."""
    likely = probabilities(problem.vectors, theta)
    wrong = likely[problem.words] - np.eye(theta.shape[1])[problem.tokens]
    vectors = problem.vectors[problem.words]
    return np.einsum("std,stl->sdl", vectors, wrong).reshape(len(wrong), -1)
