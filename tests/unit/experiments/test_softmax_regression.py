"""Softmax regression: the estimate is the one under which the counts are most likely."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.errors import InputError
from fishersft.experiments.softmax_regression import RIDGE, centred, fit, probabilities


def loss(features: np.ndarray, counts: np.ndarray, theta: torch.Tensor) -> torch.Tensor:
    """The same by torch, which differentiates it by itself."""
    logs = torch.log_softmax(torch.from_numpy(features) @ theta, dim=1)
    return -(torch.from_numpy(counts) * logs).sum() + RIDGE / 2 * (theta**2).sum()


@pytest.mark.parametrize("started", [False, True])
def test_at_the_estimate_the_gradient_is_zero_wherever_it_started(started: bool) -> None:
    rng = np.random.default_rng(0)
    features, counts = rng.normal(size=(30, 4)), rng.integers(0, 5, size=(30, 6)).astype(float)
    theta = torch.tensor(fit(features, counts, rng.normal(size=(4, 6)) if started else None), requires_grad=True)
    loss(features, counts, theta).backward()
    assert theta.grad is not None
    assert theta.grad.abs().max() < 1e-5 * counts.sum()


def test_the_estimate_comes_nearer_to_the_truth_the_more_was_counted() -> None:
    rng = np.random.default_rng(1)
    features, theta = rng.normal(size=(40, 3)), centred(rng.normal(size=(3, 5)))
    likely = probabilities(features, theta)
    few, many = (np.stack([rng.multinomial(n, row) for row in likely]).astype(float) for n in (5, 5000))
    errors = [np.abs(fit(features, counts) - theta).max() for counts in (few, many)]
    assert errors[1] < 0.05 < errors[0]


def test_counts_in_proportion_to_the_probabilities_give_back_the_parameters() -> None:
    rng = np.random.default_rng(2)
    features, theta = rng.normal(size=(20, 3)), centred(rng.normal(size=(3, 4)))
    np.testing.assert_allclose(fit(features, 1e6 * probabilities(features, theta)), theta, atol=1e-4)


def test_a_class_that_was_never_seen_leaves_the_estimate_finite() -> None:
    estimate = fit(np.eye(2), np.array([[3.0, 0.0], [2.0, 0.0]]))
    assert np.isfinite(estimate).all()
    np.testing.assert_allclose(estimate.sum(axis=1), 0, atol=1e-9)


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(InputError, match="nothing was counted"):
        fit(np.eye(2), np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"expected features \(n, dim\) and counts \(n, classes\)"):
        fit(np.eye(2), np.zeros((3, 3)))
