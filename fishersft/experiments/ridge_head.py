"""A classifier head on frozen features: multinomial logistic regression with a ridge, tuned by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from fishersft.errors import InputError
from fishersft.experiments.softmax_regression import probabilities

INTERCEPT_RIDGE = (
    1.0  # whatever the ridge: a class that was never seen keeps a finite probability, and shares are learnt
)
_GRADIENT = 1e-6  # the largest entry of the mean gradient at which a fit has converged
_ITERATIONS = 1000


class HeadProblem:
    """Labelled examples to which heads of any ridge can be fitted.

        minimise over W, b:  - sum_i log softmax(W^T x_i + b)_{y_i}  +  (ridge / 2) |W|^2  +  (1 / 2) |b|^2

    W lies in the span of the features, so it is fitted in the directions of their singular vectors, each scaled by
    about what the Hessian is there; that changes how long the fit takes and nothing else.

    Args:
        features: (n, dim), float64.
        labels: (n,), integers from 0 to `classes` - 1.
        classes: at least 2; some of them may have no example.

    Raises:
        InputError: no example, shapes that differ, or a label out of range.

    Cost: n dim min(n, dim) once, and some 20 passes of n min(n, dim) classes a fit.
    Source: Le Cessie and van Houwelingen (1992), "Ridge estimators in logistic regression"; Liu and Nocedal (1989) for
        L-BFGS.

    Example:
        >>> head = HeadProblem(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2).fit(ridge=1.0)
        >>> probabilities(with_constant(np.array([[2.0]])), head).argmax(axis=1).tolist()
        [1]
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, classes: int) -> None:
        if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
            raise InputError(f"expected features (n, dim) and labels (n,), n > 0, not {features.shape}, {labels.shape}")
        if labels.min() < 0 or labels.max() >= classes:
            raise InputError(f"labels must be from 0 to {classes - 1}, not from {labels.min()} to {labels.max()}")
        left, values, self._directions = np.linalg.svd(features, full_matrices=False)
        self._design = with_constant(left * values)
        self._seen = np.eye(classes)[labels]

    def fit(self, ridge: float) -> np.ndarray:
        """The head: (dim + 1, classes), float64; the last row is b.

        Args:
            ridge: above 0, in the units of the squared features.

        Raises:
            InputError: the ridge is not above 0.
        """
        if not ridge > 0:
            raise InputError(f"ridge must be above 0, not {ridge}")
        number, classes = self._seen.shape
        penalty = np.append(np.full(self._design.shape[1] - 1, ridge), INTERCEPT_RIDGE)
        scale = np.sqrt((self._design**2).sum(axis=0) / classes + penalty)
        x, weight = self._design / scale, (penalty / scale**2)[:, None]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            theta = flat.reshape(-1, classes)
            logits = x @ theta
            logits -= logits.max(axis=1, keepdims=True)
            likely = np.exp(logits)
            norm = likely.sum(axis=1, keepdims=True)
            value = np.log(norm).sum() - (self._seen * logits).sum() + (weight * theta**2).sum() / 2
            gradient = x.T @ (likely / norm - self._seen) + weight * theta
            return float(value) / number, gradient.ravel() / number

        found = minimize(
            loss,
            np.zeros((x.shape[1], classes)).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS, "gtol": _GRADIENT, "ftol": 1e-14},
        )
        theta = found.x.reshape(-1, classes) / scale[:, None]
        return np.vstack([self._directions.T @ theta[:-1], theta[-1:]])


def with_constant(features: np.ndarray) -> np.ndarray:
    """Features with a 1 behind each, which the head's last row multiplies: (n, dim + 1)."""
    return np.hstack([features, np.ones((len(features), 1))])


def held_out(features: np.ndarray, labels: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, float]:
    """The negative log-likelihood of each label in nats, (n,), and the share of labels that are the likeliest.

    Args:
        features: (n, dim).
        labels: (n,), integers.
        head: (dim + 1, classes), as `HeadProblem.fit` gives.
    """
    logits = with_constant(features) @ head
    logits -= logits.max(axis=1, keepdims=True)
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return nats, float((logits.argmax(axis=1) == labels).mean())


def tuned_ridge(
    features: np.ndarray, labels: np.ndarray, classes: int, ridges: Sequence[float], folds: int, seed: int
) -> float:
    """The ridge with the least negative log-likelihood in cross-validation; among equals the first.

    Args:
        features, labels, classes: as of `HeadProblem`.
        ridges: to choose from.
        folds: at least 2; the examples are dealt to them in a seeded random order.
        seed: of that order.

    Raises:
        InputError: fewer than 2 folds or than one example each, or as `HeadProblem`.

    Cost: folds times ridges fits.
    """
    if not 2 <= folds <= len(features):
        raise InputError(f"cross-validation of {len(features)} examples needs 2 to {len(features)} folds, not {folds}")
    totals = np.zeros(len(ridges))
    for left_out in np.array_split(np.random.default_rng(seed).permutation(len(features)), folds):
        rest = np.setdiff1d(np.arange(len(features)), left_out)
        problem = HeadProblem(features[rest], labels[rest], classes)
        heads = (problem.fit(ridge) for ridge in ridges)
        totals += [held_out(features[left_out], labels[left_out], head)[0].sum() for head in heads]
    return ridges[int(totals.argmin())]


def gradient_rows(features: np.ndarray, labels: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Vectors that lie to each other as the gradients of the examples' losses in the head's weights do: (n, n).

        g_i = [x_i; 1] (p_i - e_{y_i})^T,   <g_i, g_j> = (1 + <x_i, x_j>) <p_i - e_{y_i}, p_j - e_{y_j}>

    They are the gradients in the basis of their own principal directions, the one of most energy first, so they have
    the same sums, lengths and distances, in n numbers in place of (dim + 1) classes. The ridge's gradient, which is the
    same for all, is left out.

    Args:
        features: (n, dim).
        labels: (n,), integers.
        head: (dim + 1, classes), at which the gradients are taken; zeros: all classes alike.

    Cost: n^2 (dim + classes) + n^3; 8 n^2 bytes.
    """
    inputs = with_constant(features)
    wrong = probabilities(inputs, head) - np.eye(head.shape[1])[labels]
    energies, directions = np.linalg.eigh((inputs @ inputs.T) * (wrong @ wrong.T))
    rising: np.ndarray = directions * np.sqrt(energies.clip(min=0.0))
    return rising[:, ::-1]
