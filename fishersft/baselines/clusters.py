"""Clustering: k-means, and from every cluster its share."""

from __future__ import annotations

import numbers
import warnings

import numpy as np
from scipy.cluster.vq import kmeans2

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.baselines.strata import proportional_order
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit

_ITERATIONS = 25  # of k-means; scipy's does not stop by itself


def clustering(
    embeddings: Array,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    clusters: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """A random selection in which each k-means cluster has its share: stratified sampling.

    Within a cluster of n_c sentences the order is random. The clusters take turns by Sainte-Laguë's rule (the j-th
    sentence of a cluster, j = 0, 1, .., comes at (j + 1/2) / n_c), so every prefix is proportional to the clusters'
    sizes up to rounding, and a larger budget extends a smaller one. Equals come in random order.

    Args:
        embeddings: (n, dim), numbers; one vector a sentence, such as `mean_embeddings(blocks)`.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens". Shares are of sentences in both.
        clusters: >= 1; None: the root of the number of sentences. Never more than there are different vectors.
        seed: of the first centroids (k-means++) and the order, >= 0.

    Returns:
        (k,), int64; positions in `embeddings`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, an embedding that is not finite, or no
            sentence holds a token.

    Cost: O(25 n clusters dim) time, n x clusters numbers of memory.
    Source: MacQueen (1967) for k-means; Arthur and Vassilvitskii (2007) for k-means++; Neyman (1934) for
        proportional allocation.
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    vectors = budgeted.vectors_of_candidates(embeddings)
    if clusters is None:
        clusters = round(len(vectors) ** 0.5)
    if isinstance(clusters, bool) or not isinstance(clusters, numbers.Integral) or clusters < 1:
        raise InputError(f"clusters must be a whole number of at least 1, not {clusters!r}")
    rng = np.random.default_rng(seed)
    labels = _kmeans_labels(vectors, int(clusters), rng)
    return budgeted.prefix(budgeted.candidates[proportional_order(labels, rng)])


def _kmeans_labels(vectors: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The cluster of each vector: (m,), integers. Some clusters may be empty."""
    with warnings.catch_warnings():
        # A cluster that lost its members does no harm: it has no share.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        _, labels = kmeans2(vectors, _first_centroids(vectors, clusters, rng), iter=_ITERATIONS, minit="matrix")
    return labels


def _first_centroids(vectors: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each next centroid is drawn in proportion to the squared distance from those there are.

    (scipy's own looks at all earlier centroids again for each new one: O(m clusters^2 dim).)
    """
    chosen = [int(rng.integers(len(vectors)))]
    distances = ((vectors - vectors[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < clusters and distances.any():
        # By the running sum, so that a vector at distance 0 is never drawn again.
        totals = distances.cumsum()
        chosen.append(int(np.searchsorted(totals, rng.uniform() * totals[-1], side="right")))
        distances = np.minimum(distances, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
    return vectors[chosen]
