"""Ways to choose labelled examples, against greedy choices over whole gradients, written out here."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.special import softmax

from fishersft.experiments.label_choice import (
    LabelledPool,
    Method,
    chosen_examples,
    matching_with_log_det,
    whitened,
)
from fishersft.experiments.ridge_head import HeadProblem


def pool_of(number: int = 40, dim: int = 5, classes: int = 4, seed: int = 0) -> LabelledPool:
    rng = np.random.default_rng(seed)
    return LabelledPool(rng.normal(size=(number, dim)), rng.integers(classes, size=number), classes)


def separable(shares: list[int], seed: int = 0) -> LabelledPool:
    """So many examples of each label, each label around a direction of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(shares)), shares))
    return LabelledPool(
        4 * np.eye(len(shares))[labels] + 0.1 * rng.normal(size=(len(labels), len(shares))), labels, len(shares)
    )


def gradients(pool: LabelledPool, head: np.ndarray | None = None) -> np.ndarray:
    """(p - onehot) outer [x; 1], one example after the other."""
    inputs = np.hstack([pool.features, np.ones((len(pool.labels), 1))])
    theta = np.zeros((inputs.shape[1], pool.classes)) if head is None else head
    wrong = softmax(inputs @ theta, axis=1) - np.eye(pool.classes)[pool.labels]
    return np.array([np.outer(x, w).ravel() for x, w in zip(inputs, wrong, strict=True)])


def nearest_sums(rows: np.ndarray, budget: int, begin: list[int] | None = None) -> list[int]:
    """One by one the example with which the sum of rows is nearest to as many times their mean."""
    chosen = list(begin or [])
    while len(chosen) < budget:
        left = [i for i in range(len(rows)) if i not in chosen]
        errors = [np.linalg.norm(rows[[*chosen, i]].sum(axis=0) - (len(chosen) + 1) * rows.mean(axis=0)) for i in left]
        chosen.append(left[int(np.argmin(errors))])
    return chosen


def test_matching_is_greedy_on_whole_gradients() -> None:
    pool = pool_of()
    assert chosen_examples(pool, "gradient matching", 12, 1.0, 0).tolist() == nearest_sums(gradients(pool), 12)


def test_the_second_round_matches_gradients_at_the_head_fitted_to_the_first() -> None:
    pool = pool_of()
    first = nearest_sums(gradients(pool), 6)
    head = HeadProblem(pool.features[first], pool.labels[first], 4).fit(2.0)
    expected = nearest_sums(gradients(pool, head), 12, first)
    assert chosen_examples(pool, "two-round matching", 12, 2.0, 0).tolist() == expected
    assert expected != nearest_sums(gradients(pool), 12)


def test_whitening_divides_by_the_root_of_the_second_moment_and_its_mean() -> None:
    pool = pool_of(number=30)
    exact = gradients(pool)
    values, directions = np.linalg.eigh(exact.T @ exact / 30)
    level = values.sum() / 30  # over the pool's 30 principal directions
    expected = exact @ directions @ np.diag((values.clip(min=0) + level) ** -0.5) @ directions.T
    rows = whitened(pool.first_gradients)
    np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=1e-8)
    assert chosen_examples(pool, "whitened matching", 9, 1.0, 0).tolist() == nearest_sums(expected, 9)


@pytest.mark.parametrize("weight", [0.0, 1.0, 50.0])
def test_the_log_det_term_is_the_gain_of_the_features(weight: float) -> None:
    pool = pool_of()
    rows, inputs = gradients(pool), np.hstack([pool.features, np.ones((40, 1))])
    centred = rows - rows.mean(axis=0)

    def log_det(places: list[int]) -> float:
        return float(np.linalg.slogdet(np.eye(6) + inputs[places].T @ inputs[places])[1])

    chosen = list[int]()
    for _ in range(10):
        left = [i for i in range(40) if i not in chosen]
        costs = [
            (centred[[*chosen, i]].sum(axis=0) ** 2).sum() / (centred**2).sum(axis=1).mean()
            - weight * (log_det([*chosen, i]) - log_det(chosen))
            for i in left
        ]
        chosen.append(left[int(np.argmin(costs))])
    assert matching_with_log_det(pool.first_gradients, inputs, 10, weight).tolist() == chosen


@pytest.mark.parametrize("method", get_args(Method))
def test_of_a_separable_pool_every_method_chooses_every_label_and_no_example_twice(method: Method) -> None:
    pool = separable([40, 20, 20, 10, 10])
    chosen = chosen_examples(pool, method, 20, 1.0, 0)
    assert len(set(chosen.tolist())) == 20
    assert set(pool.labels[chosen].tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("method", ["stratified", "matching with label quotas"])
def test_labels_have_their_shares_of_the_budget(method: Method) -> None:
    pool = separable([40, 20, 20, 10, 10])
    assert np.bincount(pool.labels[chosen_examples(pool, method, 20, 1.0, 0)]).tolist() == [8, 4, 4, 2, 2]


def test_d_optimal_reads_no_label_and_matching_does() -> None:
    pool = pool_of()
    other = LabelledPool(pool.features, np.roll(pool.labels, 1), pool.classes)
    for method, same in (("D-optimal", True), ("gradient matching", False)):
        one, two = (chosen_examples(which, method, 10, 1.0, 0).tolist() for which in (pool, other))
        assert (one == two) is same
