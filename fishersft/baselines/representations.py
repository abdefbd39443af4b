"""RDS+: the sentences whose hidden states point where a target example's do."""

from __future__ import annotations

import numpy as np

from fishersft.baselines.budgets import Array
from fishersft.baselines.round_robin import round_robin
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit
from fishersft.numerics.likeness import unit


def rds_plus(
    embeddings: Array,
    target: Array,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
) -> np.ndarray:
    """RDS+ (representation-based data selection): round robin over the cosine similarities with each target example.

        score_ti = (e_t . e_i) / (||e_t|| ||e_i||)

    Args:
        embeddings: (n, dim), numbers; one vector a sentence, see `fishersft.models.representations.weighted_means`.
        target: (targets, dim), those of the target's examples.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `embeddings`, in the order taken.

    Raises:
        InputError: as `round_robin` and `cosine_similarities` say.

    Cost: O(targets n (dim + log n)), beside the forward pass for the embeddings.
    Source: Ivison et al. (2025), "Large-Scale Data Selection for Instruction Tuning", arXiv:2503.01807 (RDS+).

    Example:
        >>> pool = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> rds_plus(pool, np.array([[0.0, 2.0], [3.0, 0.0]]), np.array([5, 5, 5]), 2).tolist()
        [1, 0]
    """
    return round_robin(cosine_similarities(target, embeddings), lengths, budget, budget_unit=budget_unit, seed=seed)


def cosine_similarities(target: Array, pool: Array) -> np.ndarray:
    """The cosine of every target vector with every pool vector: (targets, n), float64; 0 with a vector of zeros.

    Args:
        target: (targets, dim), numbers. Vectors of zeros, of examples without a token, are left out.
        pool: (n, dim), numbers.

    Raises:
        InputError: the shapes do not fit, or no target vector is other than 0.

    Cost: O(targets n dim).

    Example:
        >>> cosine_similarities(np.array([[3.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])).tolist()
        [[1.0, 0.0]]
    """
    aims, vectors = np.asarray(target, dtype=np.float64), np.asarray(pool, dtype=np.float64)
    if aims.ndim != 2 or vectors.ndim != 2 or aims.shape[1] != vectors.shape[1]:
        raise InputError(
            f"target has shape {aims.shape} and the pool {vectors.shape}; expected (targets, dim) and (sentences, dim) "
            "of the same dim; compute both with the same model"
        )
    aims = aims[aims.any(axis=1)]
    if not len(aims):
        raise InputError("every vector of the target is zero, so there is nothing to be near to; name another target")
    return unit(aims) @ unit(vectors).T
