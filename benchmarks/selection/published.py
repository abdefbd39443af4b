"""Algorithms 1 and 2 as published: the time of an evaluation, and how many of them a whole run makes.

Both evaluate a gain as a difference of dense log determinants in float64, at the same cost in every round, so a
whole run takes the time of one evaluation, measured on its first rounds, times their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.selection.measure import Measured, measure
from benchmarks.selection.pools import first_blocks
from fishersft.numerics import TokenBlocks, block_gain, updated_cholesky
from fishersft.numerics.greedy import Picks
from fishersft.numerics.reference import paper_greedy


class Information(Protocol):
    """An information matrix in whatever form gives marginal gains."""

    def gain(self, block: Any) -> float: ...

    def add(self, block: Any) -> None: ...


class DenseInformation:
    """The matrix itself, with numpy's log determinant: the paper's arithmetic, float64."""

    def __init__(self, dim: int) -> None:
        self._matrix = np.eye(dim)
        self._log_det = 0.0

    def gain(self, block: np.ndarray) -> float:
        """log det(A + X^T X) - log det A."""
        return float(np.linalg.slogdet(self._matrix + block.T @ block).logabsdet) - self._log_det

    def add(self, block: np.ndarray) -> None:
        """A <- A + X^T X."""
        self._matrix += block.T @ block
        self._log_det = float(np.linalg.slogdet(self._matrix).logabsdet)


class FactoredInformation:
    """The Cholesky factor: the same gains at a tenth of the cost."""

    def __init__(self, dim: int) -> None:
        self._cholesky = torch.eye(dim, dtype=torch.float64)

    def gain(self, block: torch.Tensor) -> float:
        """log det(I + X A^-1 X^T)."""
        return block_gain(self._cholesky, block)

    def add(self, block: torch.Tensor) -> None:
        """A <- A + X^T X."""
        self._cholesky = updated_cholesky(self._cholesky, block)


def algorithm_2(blocks: Sequence[Any], picks: int, information: Information) -> tuple[list[int], int]:
    """Algorithm 2's picks and its number of evaluations, with gains from `information`; lambda 1.

    A block is looked at only while its last gain exceeds the best of this round.
    """
    last_gain = np.full(len(blocks), np.inf)
    chosen: list[int] = []
    evaluations = 0
    for _ in range(picks):
        best, best_gain = -1, -np.inf
        for i in range(len(blocks)):
            if last_gain[i] > best_gain:
                last_gain[i] = information.gain(blocks[i])
                evaluations += 1
                if last_gain[i] > best_gain:
                    best, best_gain = i, last_gain[i]
        information.add(blocks[best])
        last_gain[best] = -np.inf
        chosen.append(best)
    return chosen, evaluations


def dense_by_torch(pool: Callable[[], TokenBlocks], rounds: int) -> Measured:
    """The first rounds of `paper_greedy`, the project's reference (torch.linalg.slogdet)."""
    blocks = pool()
    few = first_blocks(blocks, 4)
    paper_greedy(few, Picks(few.lengths.numpy(), few.dim, 1))
    picks = Picks(blocks.lengths.numpy(), blocks.dim, rounds)
    _, measured = measure(lambda: paper_greedy(blocks, picks))
    return replace(measured, picks=picks.indices, facts={"evaluations": picks.evaluations})


def dense_by_numpy(pool: Callable[[], TokenBlocks], rounds: int) -> Measured:
    """The first rounds with numpy.linalg.slogdet; blocks are made float64 before the clock starts."""
    blocks = pool()
    dim, arrays = blocks.dim, [block.double().numpy() for block in blocks]
    algorithm_2(arrays[:4], 1, DenseInformation(dim))
    (chosen, evaluations), measured = measure(lambda: algorithm_2(arrays, rounds, DenseInformation(dim)))
    return replace(measured, picks=chosen, facts={"evaluations": evaluations})


def replayed(pool: Callable[[], TokenBlocks], picks: int) -> Measured:
    """The whole run with gains from a Cholesky factor, for its picks and its number of evaluations."""
    blocks = pool()
    run, measured = measure(lambda: algorithm_2(list(blocks), picks, FactoredInformation(blocks.dim)))
    return replace(measured, picks=run[0], facts={"evaluations": run[1]})


def naive_evaluations(sentences: int, picks: int) -> int:
    """Algorithm 1's evaluations: every sentence that is left, in every round.

    Example:
        >>> naive_evaluations(10, 3)  # 10 + 9 + 8
        27
    """
    return sum(sentences - k for k in range(picks))
