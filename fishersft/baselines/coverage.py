"""Facility location: sentences such that each of the others is like one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def facility_location(
    embeddings: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """The greedy maximiser of facility location, by the library submodlib.

        maximise sum over all i of max over chosen j of s_ij,  s_ij = (1 + cos(e_i, e_j)) / 2

    It is monotone and submodular, so with a budget in sentences the result is at least 1 - 1/e of the best
    possible. With a budget in tokens the same greedy order is cut where its tokens come nearest to the budget.

    Args:
        embeddings: (n, dim), numbers; one vector a sentence, such as `mean_embeddings(blocks)`. The cosine with a
            zero vector counts as 0.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `embeddings`, in the order chosen.

    Raises:
        InputError: submodlib is not installed, an argument out of its range, shapes that differ, an embedding
            that is not finite, or no sentence holds a token.

    Cost: all pairs: O(n^2 dim) time and n^2 numbers of memory (float32, and a copy inside the library): for some
        ten thousand sentences, not more.
    Source: Mirchandani and Francis (1990); Lin and Bilmes (2011) for the use on text; Kaushal et al. (2022),
        "Submodlib", arXiv:2202.10680.
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    vectors = budgeted.vectors_of_candidates(embeddings)
    function_class = _facility_location_function()
    count, most = len(vectors), budgeted.most
    picks: list[int] = []
    if count > 1:
        objective = function_class(n=count, mode="dense", sijs=_similarities(vectors), separate_rep=False)
        # The library chooses at most all but one.
        chosen = objective.maximize(
            budget=min(most, count - 1), optimizer="LazyGreedy", stopIfZeroGain=False, show_progress=False
        )
        picks = [index for index, _ in chosen]
    if len(picks) < most:
        picks += sorted(set(range(count)) - set(picks))
    return budgeted.prefix(budgeted.candidates[picks])


def _similarities(vectors: np.ndarray) -> np.ndarray:
    """(1 + cosine) / 2 of all pairs: (m, m), float32, in [0, 1]."""
    # Scaled by the largest entry first: the square of a huge one would overflow, of a tiny one vanish.
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    directions = (scaled / np.where(norms > 0, norms, 1)).astype(np.float32)
    return np.clip((1 + directions @ directions.T) / 2, 0, 1)


def _facility_location_function() -> Any:
    try:
        from submodlib import FacilityLocationFunction
    except ModuleNotFoundError as error:
        raise InputError(
            f"facility location needs the library submodlib ({error}); "
            "install it with: pip install 'fishersft[baselines]'"
        ) from error
    return FacilityLocationFunction
