"""What all baselines share: the candidates, the check of their arguments, and how a budget cuts an order."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit

Array = np.ndarray | torch.Tensor

_LARGEST = 1e100  # the square of anything larger may overflow float64 in a sum of many


@dataclass(frozen=True, eq=False)
class Budgeted:
    """Checked arguments: who may be chosen, and how much.

    Attributes:
        lengths: (n,), int64; tokens in each sentence.
        candidates: (m,), int64; positions of the sentences that hold a token, rising.
        budget, budget_unit, seed: as given.
    """

    lengths: np.ndarray
    candidates: np.ndarray
    budget: int
    budget_unit: BudgetUnit
    seed: int

    @classmethod
    def checked(cls, lengths: Array, budget: int, budget_unit: BudgetUnit, seed: int) -> Budgeted:
        """The arguments of a baseline, or InputError that says which is wrong."""
        for name, value, least in (("budget", budget, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if budget_unit not in get_args(BudgetUnit):
            raise InputError(f"budget_unit must be one of {', '.join(get_args(BudgetUnit))}, not {budget_unit!r}")
        counts = np.asarray(lengths)
        if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer):
            raise InputError(
                f"lengths must be whole numbers of shape (sentences,), not {counts.dtype} of shape {counts.shape}"
            )
        counts = counts.astype(np.int64)
        if (counts < 0).any():
            first = int(np.flatnonzero(counts < 0)[0])
            raise InputError(f"lengths must not be negative; sentence {first} has {counts[first]} tokens")
        candidates = np.flatnonzero(counts)
        if candidates.size == 0:
            raise InputError("no sentence holds a token, so there is nothing to choose from")
        return cls(counts, candidates, int(budget), budget_unit, int(seed))

    @property
    def most(self) -> int:
        """The most sentences that any order can need: no prefix that the budget takes is longer."""
        if self.budget_unit == "sentences":
            return min(self.budget, len(self.candidates))
        shortest_first = np.sort(self.lengths[self.candidates]).cumsum()
        return min(int(np.searchsorted(shortest_first, self.budget)) + 1, len(self.candidates))

    def prefix(self, order: np.ndarray) -> np.ndarray:
        """What the budget takes of an order of positions (at least the first `most` of one), int64."""
        order = order.astype(np.int64)
        if self.budget_unit == "sentences":
            return order[: self.budget]
        totals = self.lengths[order].cumsum()
        return order[: np.abs(totals - self.budget).argmin() + 1]

    def ranked(self, costs: np.ndarray) -> np.ndarray:
        """The candidates by rising cost, equals in the order of the corpus: positions, (m,).

        Args:
            costs: (m,), of the candidates.
        """
        return self.candidates[np.argsort(costs, kind="stable")]

    def values_of_candidates(self, values: Array, name: str) -> np.ndarray:
        """The candidates' share of one finite number a sentence: (m,), float64."""
        return self._finite(self.labels_of_candidates(_as_float64(values, name), name), name)

    def labels_of_candidates(self, labels: Sequence[str] | Array, name: str) -> np.ndarray:
        """The candidates' share of one label of any kind a sentence: (m,)."""
        found = np.asarray(labels)
        if found.shape != self.lengths.shape:
            raise InputError(
                f"{name} has shape {found.shape}, but there are {len(self.lengths)} lengths; give one a sentence"
            )
        share: np.ndarray = found[self.candidates]
        return share

    def vectors_of_candidates(self, embeddings: Array) -> np.ndarray:
        """The candidates' rows of embeddings of shape (n, dim), finite: (m, dim), float64."""
        vectors = _as_float64(embeddings, "embeddings")
        if vectors.ndim != 2 or vectors.shape[1] == 0 or len(vectors) != len(self.lengths):
            raise InputError(
                f"embeddings must have shape (sentences, dim) with {len(self.lengths)} sentences, as lengths has; "
                f"not {vectors.shape}"
            )
        everyone = len(self.candidates) == len(vectors)  # then no second array as large
        return self._finite(vectors if everyone else vectors[self.candidates], "embeddings")

    def _finite(self, values: np.ndarray, name: str) -> np.ndarray:
        rows = values.reshape(len(values), -1)
        bad = ~((rows.max(axis=1) <= _LARGEST) & (rows.min(axis=1) >= -_LARGEST))  # NaN compares as False
        if bad.any():
            sentence = int(self.candidates[np.flatnonzero(bad)[0]])
            raise InputError(
                f"{name} of sentence {sentence} holds NaN, infinity or a value beyond {_LARGEST:.0e}; "
                "compute it again or leave it out"
            )
        return values


def _as_float64(values: Array, name: str) -> np.ndarray:
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype == bool or not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{name} must hold real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)
