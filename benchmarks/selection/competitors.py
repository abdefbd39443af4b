"""What a user of single vectors would take instead: rank-one greedy in numpy, and submodlib's lazy greedy."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from benchmarks.selection.measure import Measured, measure
from benchmarks.selection.pools import gaussian_vectors


def eager_greedy(vectors: np.ndarray, picks: int) -> list[int]:
    """Greedy for log det(I + sum of x x^T), with every gain kept up to date by a rank-one change.

    A gain is log(1 + d_j) with d_j = x_j^T A^-1 x_j. After x_i is chosen, with p = A^-1 x_i / sqrt(1 + d_i),
    A^-1 falls by p p^T and d_j by (x_j^T p)^2 (Sherman and Morrison). So a pick costs one product of
    all vectors with p.

    Args:
        vectors: (n, dim), float64 or float32; computed in that dtype.
        picks: at most n.
    """
    inverse = np.eye(vectors.shape[1], dtype=vectors.dtype)
    energies = np.einsum("ij,ij->i", vectors, vectors)
    falls = np.empty_like(energies)
    chosen: list[int] = []
    for _ in range(picks):
        best = int(energies.argmax())
        direction = inverse @ vectors[best] / np.sqrt(1 + energies[best])
        inverse -= np.outer(direction, direction)
        np.dot(vectors, direction, out=falls)
        np.square(falls, out=falls)
        energies -= falls
        energies[best] = -np.inf
        chosen.append(best)
    return chosen


def eager_from(count: int, dim: int, picks: int, dtype: str) -> Measured:
    """`eager_greedy` on Gaussian vectors."""
    vectors = gaussian_vectors(count, dim).astype(dtype)
    eager_greedy(vectors[:1000], 2)
    chosen, measured = measure(lambda: eager_greedy(vectors, picks))
    return replace(measured, picks=chosen)


def has_submodlib() -> bool:
    """Whether the extra `baselines` is installed."""
    return find_spec("submodlib") is not None


def submodlib_greedy(vectors: np.ndarray, picks: int) -> tuple[list[int], float]:
    """submodlib's lazy greedy for log det(I + K_S), K = X X^T: the picks, and the seconds of its search alone.

    By Sylvester's identity that is log det(I + sum over S of x x^T): the same objective.
    """
    from submodlib import LogDeterminantFunction

    kernel = vectors @ vectors.T
    objective = LogDeterminantFunction(n=len(vectors), mode="dense", lambdaVal=1.0, sijs=kernel)
    started = time.perf_counter()
    chosen = objective.maximize(
        budget=picks, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [index for index, _ in chosen], time.perf_counter() - started


def submodlib_from(count: int, dim: int, picks: int) -> Measured:
    """`submodlib_greedy` on Gaussian vectors: from the vectors to the picks."""
    vectors = gaussian_vectors(count, dim)
    submodlib_greedy(vectors[:100], 2)
    (chosen, search), measured = measure(lambda: submodlib_greedy(vectors, picks))
    return replace(measured, picks=chosen, facts={"search": search})
