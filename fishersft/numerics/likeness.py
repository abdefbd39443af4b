"""How alike vectors are: to a target's, and to each other."""

from __future__ import annotations

import numpy as np

from fishersft.errors import InputError

_OWN_SHARE = 0.9  # of the target's vectors that count as like the target themselves


def like_target(pool: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whether each vector of a pool is as near to a target as nine tenths of the target's vectors are.

    Near is the largest cosine with a vector of the target, for the target's own with another one.

    Args:
        pool: (n, dim); a row of zeros is like nothing.
        target: (m, dim), likewise, m >= 2.

    Returns:
        bool (n,).

    Raises:
        InputError: shapes that do not fit, or fewer than 2 vectors in the target.

    Cost: n m dim.
    Source: this project's; `fishersft diagnose` finds 19% of the demo's pool like its target, where 20% are.

    Example:
        >>> like_target(np.array([[1.0, 0.1], [-1.0, 0.2]]), np.array([[1.0, 0.0], [0.9, 0.3]])).tolist()
        [True, False]
    """
    if pool.ndim != 2 or target.ndim != 2 or pool.shape[1:] != target.shape[1:] or len(target) < 2:
        raise InputError(f"expected vectors (n, dim) and at least 2 of a target, not {pool.shape} and {target.shape}")
    aims = unit(target)
    own = aims @ aims.T
    np.fill_diagonal(own, -np.inf)
    least = np.quantile(own.max(axis=1), 1 - _OWN_SHARE)
    return np.asarray((unit(pool) @ aims.T).max(axis=1) >= least)


def share_like_target(pool: np.ndarray, target: np.ndarray) -> float:
    """The estimated share of a pool that is like a target, corrected for the tenth of it that `like_target` misses."""
    return min(1.0, float(like_target(pool, target).mean()) / _OWN_SHARE)


def effective_rank(vectors: np.ndarray) -> float:
    """In how many directions vectors vary: exp of the entropy of their normalised singular values, 1 to dim.

    Args:
        vectors: (n, dim), not all 0.

    Cost: n dim^2.
    Source: Roy and Vetterli (2007), "The effective rank: a measure of effective dimensionality".

    Example:
        >>> round(effective_rank(np.eye(3)), 6)
        3.0
    """
    squares = np.linalg.eigvalsh(vectors.T.astype(np.float64) @ vectors.astype(np.float64))
    values = np.sqrt(np.clip(squares, 0, None))
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1: (n, dim), float64; those of zeros stay zero.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)
