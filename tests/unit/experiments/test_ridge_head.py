"""A head on frozen features: the estimate, its ridge and its gradients against torch's autograd."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from fishersft.errors import InputError
from fishersft.experiments.ridge_head import HeadProblem, gradient_rows, held_out, tuned_ridge
from fishersft.numerics.threads import one_blas_thread


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the step has it: many small products."""
    with one_blas_thread():
        yield


def drawn(number: int, dim: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    features, weights = rng.normal(size=(number, dim)), rng.normal(size=(dim, classes))
    return features, (features @ weights + rng.gumbel(size=(number, classes))).argmax(axis=1)


def objective(features: np.ndarray, labels: np.ndarray, head: torch.Tensor, ridge: float) -> torch.Tensor:
    """- sum log softmax(W^T x + b)_y + ridge / 2 |W|^2 + 1 / 2 |b|^2."""
    logs = torch.log_softmax(torch.from_numpy(features) @ head[:-1] + head[-1], dim=1)
    likelihood = logs[range(len(labels)), labels.tolist()].sum()
    return -likelihood + ridge / 2 * (head[:-1] ** 2).sum() + (head[-1] ** 2).sum() / 2


def fitted_by_torch(features: np.ndarray, labels: np.ndarray, classes: int, ridge: float) -> np.ndarray:
    head = torch.zeros(features.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([head], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = objective(features, labels, head, ridge)
        loss.backward()
        return loss

    optimiser.step(closure)
    return head.detach().numpy()


@pytest.mark.parametrize(("number", "dim"), [(60, 4), (12, 40)])
@pytest.mark.parametrize("ridge", [0.1, 30.0])
def test_at_the_estimate_the_gradient_is_zero_with_fewer_and_with_more_examples_than_dimensions(
    number: int, dim: int, ridge: float
) -> None:
    features, labels = drawn(number, dim, 5)
    head = torch.tensor(HeadProblem(features, labels, 5).fit(ridge), requires_grad=True)
    objective(features, labels, head, ridge).backward()
    assert head.grad is not None and head.shape == (dim + 1, 5)
    assert head.grad.abs().max() < 1e-3  # at zeros it is above 1


def test_a_class_that_was_never_seen_keeps_a_finite_probability() -> None:
    features, labels = drawn(20, 3, 2)
    nats, _ = held_out(features, np.full(20, 2), HeadProblem(features, labels, 3).fit(1.0))
    assert np.isfinite(nats).all() and (nats > 1).all()


def test_held_out_figures_are_those_of_the_logits() -> None:
    features, labels = drawn(15, 3, 4)
    head = np.random.default_rng(1).normal(size=(4, 4))
    logs = log_softmax(features @ head[:-1] + head[-1], axis=1)
    nats, accuracy = held_out(features, labels, head)
    np.testing.assert_allclose(nats, -logs[np.arange(15), labels])
    assert accuracy == np.mean(logs.argmax(axis=1) == labels)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_ridge_is_what_cross_validation_by_brute_force_picks(seed: int) -> None:
    features, labels = drawn(40, 6, 3, seed)
    ridges = [0.01, 1.0, 100.0]
    totals = np.zeros(3)
    for fold in np.array_split(np.random.default_rng(seed).permutation(40), 4):
        rest = np.array([place for place in range(40) if place not in fold])
        for column, ridge in enumerate(ridges):
            head = fitted_by_torch(features[rest], labels[rest], 3, ridge)
            logs = log_softmax(features[fold] @ head[:-1] + head[-1], axis=1)
            totals[column] -= logs[np.arange(len(fold)), labels[fold]].sum()
    assert tuned_ridge(features, labels, 3, ridges, folds=4, seed=seed) == ridges[totals.argmin()]


def test_rows_lie_to_each_other_as_torchs_gradients_of_each_examples_loss() -> None:
    features, labels = drawn(9, 5, 4)
    start = np.random.default_rng(3).normal(size=(6, 4))
    gradients = []
    for x, y in zip(features, labels, strict=True):
        head = torch.tensor(start, requires_grad=True)
        objective(x[None], np.array([y]), head, 0.0).backward()
        assert head.grad is not None
        gradients.append((head.grad - torch.cat([torch.zeros(5, 4), head[-1:].detach()])).numpy().ravel())
    exact = np.array(gradients)
    rows = gradient_rows(features, labels, start)
    np.testing.assert_allclose(rows @ rows.T, exact @ exact.T, atol=1e-9)
    energies = (rows**2).sum(axis=0)
    np.testing.assert_allclose(rows.T @ rows, np.diag(energies), atol=1e-9)
    assert (np.diff(energies) <= 1e-9).all()


def test_what_cannot_be_fitted_is_said() -> None:
    features, labels = drawn(10, 3, 2)
    with pytest.raises(InputError, match=r"expected features \(n, dim\) and labels \(n,\)"):
        HeadProblem(features, labels[:9], 2)
    with pytest.raises(InputError, match="labels must be from 0 to 1"):
        HeadProblem(features, labels + 1, 2)
    with pytest.raises(InputError, match="ridge must be above 0, not 0"):
        HeadProblem(features, labels, 2).fit(0)
    with pytest.raises(InputError, match="10 examples needs 2 to 10 folds, not 11"):
        tuned_ridge(features, labels, 2, [1.0], folds=11, seed=0)
