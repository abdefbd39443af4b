"""Algorithms 1 and 2 of Deb et al. (2025), close to the paper's text: slow, and what the rest must equal.

Both evaluate a gain as the paper does, as a difference of dense log determinants in float64. Blocks are
divided by sqrt(lambda) first, which changes no gain (see `information.scaled`). Gains that differ by less
than rounding are ties, and the lower index wins (`Picks.beats`).

A dense log determinant errs by about dim * eps * (condition number of A). With lambda tiny against the
embeddings that is more than what counts as a tie, and of blocks that are equal but for the order of their
tokens these references may then take the higher index (lazy greedy, which never forms A,
errs by far less).

Source: Deb et al., "FisherSFT: Data-Efficient Supervised Fine-Tuning of Language Models Using Information
Gain", ICML 2025, arXiv:2505.14826.
"""

from __future__ import annotations

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import scaled


def naive_greedy(
    blocks: Blocks, picks: Picks, *, regularization: float = 1.0, cholesky: torch.Tensor | None = None
) -> None:
    """Algorithm 1: in every step evaluate every block that may be chosen, and take the best.

        i_t = argmax over i of log det(A_(t-1) + X_i^T X_i)

    Args: as of `lazy.lazy_greedy`.
    Cost: picks * blocks * dim^2 (dim + tokens).

    Example:
        >>> pool = TokenBlocks(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=2)
        >>> naive_greedy(pool, picks)
        >>> picks.indices  # (3, 0) first; then (0, 1) adds log 2, (2, 0) only log(14 / 10)
        [1, 2]
    """
    information = _start(blocks, picks, regularization, cholesky)
    while picks.open.any():
        log_det = _log_det(information)
        best, best_score = -1, -np.inf
        for i in np.flatnonzero(picks.open):
            block = scaled(blocks[int(i)], regularization).cpu()
            gain = max(0.0, _log_det(information + block.T @ block) - log_det)
            picks.evaluations += 1
            if picks.beats(gain / picks.weights[i], best_score):
                best, best_gain, best_score = int(i), gain, gain / picks.weights[i]
        if picks.take(best, best_gain):
            chosen = scaled(blocks[best], regularization).cpu()
            information += chosen.T @ chosen


def paper_greedy(
    blocks: Blocks, picks: Picks, *, regularization: float = 1.0, cholesky: torch.Tensor | None = None
) -> None:
    """Algorithm 2: as Algorithm 1, but look at a block only if its last known gain exceeds the round's best.

    A block's gain never grows as more is selected (submodularity), so a block whose old gain does not exceed
    the best of this round cannot do so now. A tie cannot be missed either: the scan goes by index, so whoever
    set the best has the lower index and keeps it.

    Args: as of `lazy.lazy_greedy`.
    Cost: that of Algorithm 1 at worst; a few percent of it on real embeddings.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=2)
        >>> paper_greedy(pool, picks)
        >>> picks.indices, picks.evaluations  # round 1 looks at block 0 (its bound is infinite) and at 1 and 2
        ([0, 2], 5)
    """
    information = _start(blocks, picks, regularization, cholesky)
    last_gain = np.full(len(blocks), np.inf)
    while picks.open.any():
        log_det = _log_det(information)
        best, best_score = -1, -np.inf
        for i in np.flatnonzero(picks.open):
            if not picks.beats(last_gain[i] / picks.weights[i], best_score):
                continue
            block = scaled(blocks[int(i)], regularization).cpu()
            last_gain[i] = max(0.0, _log_det(information + block.T @ block) - log_det)
            picks.evaluations += 1
            if picks.beats(last_gain[i] / picks.weights[i], best_score):
                best, best_score = int(i), last_gain[i] / picks.weights[i]
        if picks.take(best, float(last_gain[best])):
            chosen = scaled(blocks[best], regularization).cpu()
            information += chosen.T @ chosen


def _start(blocks: Blocks, picks: Picks, regularization: float, cholesky: torch.Tensor | None) -> torch.Tensor:
    information = torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky @ cholesky.T
    for index in picks.indices:
        block = scaled(blocks[index], regularization).cpu()
        information += block.T @ block
    return information


def _log_det(matrix: torch.Tensor) -> float:
    sign, log_det = torch.linalg.slogdet(matrix)
    if not (sign > 0 and bool(log_det.isfinite())):
        raise InputError(
            "the information matrix is too ill-conditioned for a dense log determinant, which the references take; "
            'use algorithm "lazy", or a larger regularization'
        )
    return float(log_det)
