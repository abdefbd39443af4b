"""V-optimal greedy close to its definition: slow, and what `v_optimal.v_optimal_greedy` must equal.

A reduction is the difference of two traces of dense inverses, in float64. It errs by about dim * eps * (condition
number of A) times the variance, so blocks that are equal but for the order of their tokens need not tie here (see
`reference`).
"""

from __future__ import annotations

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import scaled
from fishersft.numerics.v_optimal import check_moment


def naive_v_optimal(
    blocks: Blocks,
    picks: Picks,
    target_moment: torch.Tensor,
    *,
    regularization: float = 1.0,
    cholesky: torch.Tensor | None = None,
) -> None:
    """In every step evaluate every block that may be chosen, and take the one that takes most off the variance.

        i_t = argmax over i of tr(A_(t-1)^-1 M) - tr((A_(t-1) + X_i^T X_i)^-1 M)

    Args: as of `v_optimal_greedy`.
    Cost: picks * blocks * dim^2 (dim + tokens).

    Example:
        >>> pool = TokenBlocks(torch.tensor([[9.0, 0.0], [0.0, 1.0]]), torch.arange(3))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=1)
        >>> naive_v_optimal(pool, picks, torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64)))
        >>> picks.gains
        [0.5]
    """
    check_moment(target_moment, blocks)
    moment = target_moment.cpu()
    information = torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky @ cholesky.T
    # What `Picks.beats` allows for rounding is that of a total of dim; where the whole variance is less, so is its own.
    weights = picks.weights * (min(1.0, _variance(information, moment)) or 1.0)
    while picks.open.any():
        variance = _variance(information, moment)
        best, best_score = -1, -np.inf
        for i in np.flatnonzero(picks.open):
            block = scaled(blocks[int(i)], regularization).cpu()
            gain = max(0.0, variance - _variance(information + block.T @ block, moment))
            picks.evaluations += 1
            if picks.beats(gain / weights[i], best_score):
                best, best_gain, best_score = int(i), gain, gain / weights[i]
        if picks.take(best, best_gain):
            chosen = scaled(blocks[best], regularization).cpu()
            information += chosen.T @ chosen


def _variance(information: torch.Tensor, moment: torch.Tensor) -> float:
    return float(torch.trace(torch.linalg.inv(information) @ moment))
