"""Density sampling: sentences like many others are drawn less often, by a hashed kernel density."""

from __future__ import annotations

import math
import numbers

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit

_ROWS_AT_ONCE = 32  # hash functions at once: bounds memory to sentences x this many numbers
_PAIRS = 10_000  # sampled pairs for the median distance
_ROWS, _HASH_RANGE = 1_000, 20_000  # the size of the sketch; more rows: less noise


def density(
    embeddings: Array,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    bandwidth: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Density sampling: drawn without replacement, each in proportion to 1 / its kernel density (inverse propensity).

        P(next is i) = (1 / s_i) / sum over the undrawn j of (1 / s_j),  s = `density_scores`

    Drawn as the order of log(1 / s_i) + G_i with independent standard Gumbel G_i (Gumbel top-k), which is the same.

    Args:
        embeddings: (n, dim), numbers; one vector a sentence. The source takes those of Sentence-T5; the mean
            prelogit embeddings (`mean_embeddings`) cost nothing more here.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        bandwidth: of the kernel, see `density_scores`.
        seed: of the hash functions and the draw, >= 0. A larger budget extends a smaller one.

    Returns:
        (k,), int64; positions in `embeddings`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, an embedding that is not finite, or no
            sentence holds a token.

    Cost: that of `density_scores`.
    Source: Sachdeva et al. (2024), "How to Train Data-Efficient LLMs", arXiv:2402.09668 (Density);
        Coleman et al. (2022), "One-Pass Diversified Sampling", ICML; Vieira (2014) for Gumbel top-k.
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    vectors = budgeted.vectors_of_candidates(embeddings)
    hashing, drawing = np.random.SeedSequence(seed).spawn(2)
    scores = density_scores(vectors, bandwidth=bandwidth, rng=np.random.default_rng(hashing))
    keys = np.random.default_rng(drawing).gumbel(size=len(scores)) - np.log(scores)
    return budgeted.prefix(budgeted.ranked(-keys))


def density_scores(
    embeddings: np.ndarray,
    *,
    bandwidth: float | None = None,
    rows: int = _ROWS,
    hash_range: int = _HASH_RANGE,
    rng: np.random.Generator,
) -> np.ndarray:
    """The kernel density of each sentence among all of them, estimated by hashing: (n,), float64, in [1/n, 1].

        s_i = (1 / (n R)) sum over rows r of |{j : h_r(e_j) = h_r(e_i)}|,  h_r(e) = floor((a_r.e + b_r) / w) mod B

    with a_r standard normal and b_r uniform in [0, w) (the hash for Euclidean distance). Its mean over the hash
    functions is the density under the kernel k(d) = P(two points at distance d share a hash), which falls from 1 at
    0, to 0.37 at d = w and to 0.4 w / d far out; `mod B` adds collisions only where points spread over B w or more.

    Args:
        embeddings: (n, dim), float64.
        bandwidth: w > 0, in the units of the embeddings; None: the median distance of sampled pairs of different
            points.
        rows: R, how many hash functions; the standard error falls with its root.
        hash_range: B, how many counters a row has.
        rng: draws the hash functions and the pairs.

    Raises:
        InputError: the bandwidth is not above 0.

    Cost: O(n dim R) time. One row of the sketch is counted and read before the next is made, so the sketch of
        R x B counters is never held: O(n + B) memory beside the input.
    Source: Coleman and Shrivastava (2020), "Sub-linear RACE Sketches for Approximate Kernel Density Estimation",
        WWW; Datar et al. (2004), SCG, for the hash; Sachdeva et al. (2024), arXiv:2402.09668, for the use.
    """
    if bandwidth is None:
        bandwidth = _median_distance(embeddings, rng)
    is_number = isinstance(bandwidth, numbers.Real) and not isinstance(bandwidth, bool)
    if not is_number or not math.isfinite(bandwidth) or bandwidth <= 0:
        raise InputError(f"bandwidth must be a finite number above 0, not {bandwidth!r}")
    sentences, dim = embeddings.shape
    # Distances are what counts: without the common part less is lost to rounding, and hashes stay small.
    centered = (embeddings - embeddings.mean(axis=0)) / bandwidth
    counts = np.zeros(sentences, dtype=np.int64)
    for start in range(0, rows, _ROWS_AT_ONCE):
        functions = min(_ROWS_AT_ONCE, rows - start)
        projected = centered @ rng.normal(size=(dim, functions)) + rng.uniform(size=functions)
        hashes = np.mod(np.floor(projected), hash_range).astype(np.int64)
        for column in hashes.T:
            counts += np.bincount(column, minlength=hash_range)[column]
    return counts / (sentences * rows)


def _median_distance(embeddings: np.ndarray, rng: np.random.Generator) -> float:
    """The median distance of sampled pairs that differ; 1 where all points are the same."""
    first, second = rng.integers(len(embeddings), size=(2, _PAIRS))
    distances = np.concatenate(
        [
            np.linalg.norm(embeddings[first[piece]] - embeddings[second[piece]], axis=1)
            for piece in (slice(start, start + 1000) for start in range(0, _PAIRS, 1000))
        ]
    )
    apart = distances[distances > 0]
    return float(np.median(apart)) if apart.size else 1.0
