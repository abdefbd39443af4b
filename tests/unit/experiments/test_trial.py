"""Trials: where the theory holds the designs win, and where its premise does not they lose."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from fishersft.experiments.trial import Chooser, Trial, chosen_order, trials
from fishersft.experiments.word_problem import Features, WordProblem, draw_problem

SEEDS = range(6)


def problem_of(features: Features, seed: int) -> WordProblem:
    rng = np.random.default_rng(seed)
    words = 500 if features == "independent" else 20
    return draw_problem(rng.normal(size=(words, 10)), 20, 1500, 20, features, rng)


def ratios(features: Features, budget: int, method: Chooser = "D-optimal", other: Chooser = "uniform") -> np.ndarray:
    """The logarithm of the mean error of a method by that of another, one a seed."""
    found = []
    for seed in SEEDS:
        two = list(trials(problem_of(features, seed), (method, other), [budget], 1.0, seed))
        found.append(np.log(two[0].mean_error / two[1].mean_error))
    return np.array(found)


def standard_errors_from_zero(values: np.ndarray) -> float:
    return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))


def test_with_features_that_were_fixed_before_the_tokens_d_optimal_has_the_smaller_error() -> None:
    assert standard_errors_from_zero(ratios("independent", 200)) < -2


def test_with_features_made_of_a_sentences_own_tokens_it_has_the_larger_as_it_chooses_by_outcomes() -> None:
    own = ratios("own tokens", 200)
    assert standard_errors_from_zero(own) > 2.5
    assert standard_errors_from_zero(own - ratios("own tokens, redrawn", 200)) > 2.5


@pytest.mark.parametrize("features", get_args(Features))
@pytest.mark.parametrize("other", ["uniform", "D-optimal"])
def test_gradient_matching_has_the_smaller_error_wherever_the_features_come_from(
    features: Features, other: Chooser
) -> None:
    by = ratios(features, 200, "gradient-matching", other)
    assert standard_errors_from_zero(by) < -3 and (by < 0).all()


@pytest.mark.parametrize("features", get_args(Features))
def test_gradients_of_a_model_that_was_fitted_before_match_better_than_those_of_none(features: Features) -> None:
    by = ratios(features, 500, "two-round matching", "gradient-matching")
    assert standard_errors_from_zero(by) < -3


@pytest.mark.parametrize("method", get_args(Chooser))
def test_every_method_chooses_so_many_different_sentences_and_the_same_again(method: Chooser) -> None:
    problem = problem_of("independent", 0)
    order = chosen_order(problem, method, 20, 1.0, 3)
    assert len(set(order.tolist())) == 20
    np.testing.assert_array_equal(order, chosen_order(problem, method, 20, 1.0, 3))


def test_a_trial_has_a_row_for_every_method_and_budget() -> None:
    rows = list(trials(problem_of("independent", 0), ("uniform", "clustering"), [10, 40], 1.0, 0))
    assert [(row.method, row.budget) for row in rows] == [
        ("uniform", 10),
        ("uniform", 40),
        ("clustering", 10),
        ("clustering", 40),
    ]
    assert all(isinstance(row, Trial) and row.max_error >= row.mean_error > 0 for row in rows)
