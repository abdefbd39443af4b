"""Softmax regression on features of which there are few different ones: its maximum likelihood estimate."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from fishersft.errors import InputError

RIDGE = 1e-3  # keeps the estimate finite where a class was never seen
_ITERATIONS = 2000
_GRADIENT = 1e-6  # the largest entry of the mean gradient at which it has converged


def centred(theta: np.ndarray) -> np.ndarray:
    """Parameters whose classes sum to zero in every dimension: the same probabilities, and only one such form."""
    return theta - theta.mean(axis=1, keepdims=True)


def probabilities(features: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """p(class | x) = softmax(theta^T x) for each feature: (n, classes).

    Example:
        >>> probabilities(np.array([[1.0]]), np.array([[0.0, np.log(3)]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    logits = features @ theta
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return likely / likely.sum(axis=1, keepdims=True)


def fit(features: np.ndarray, counts: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The parameters under which what was counted is most likely.

        minimise over theta:  - sum_u sum_l counts_ul log p(l | x_u)  +  (ridge / 2) |theta|^2

    It is convex, and strictly so by the ridge of 0.001, so where it starts changes the time it takes and no more.

    Args:
        features: (n, dim), float64; the different features x_u.
        counts: (n, classes); how often each class was seen with each.
        start: (dim, classes); where to start, zeros if None.

    Returns:
        (dim, classes), float64; each dimension sums to zero over the classes.

    Raises:
        InputError: shapes that do not fit, or nothing was counted.

    Cost: some hundred passes of n x dim x classes.
    Source: Deb et al. (2025), arXiv:2505.14826, equation 2; Liu and Nocedal (1989) for L-BFGS.
    """
    if features.ndim != 2 or counts.ndim != 2 or len(features) != len(counts):
        raise InputError(f"expected features (n, dim) and counts (n, classes), not {features.shape}, {counts.shape}")
    seen = counts.sum(axis=1)
    total = float(seen.sum())
    if not total:
        raise InputError("nothing was counted, so there is nothing to fit")
    shape = features.shape[1], counts.shape[1]
    rows = seen > 0
    x, weight, sums = features[rows], seen[rows, None], features.T @ counts

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(shape)
        logits = x @ theta
        highest = logits.max(axis=1, keepdims=True)
        likely = np.exp(logits - highest)
        norm = likely.sum(axis=1, keepdims=True)
        value = float((weight * (np.log(norm) + highest)).sum() - (sums * theta).sum()) + RIDGE / 2 * float(flat @ flat)
        gradient = x.T @ (weight * likely / norm) - sums + RIDGE * theta
        return value / total, gradient.ravel() / total

    begin = np.zeros(shape).ravel() if start is None else np.array(start, dtype=np.float64).ravel()
    found = minimize(
        loss,
        begin,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "gtol": _GRADIENT, "ftol": 1e-15},
    )
    return centred(found.x.reshape(shape))
