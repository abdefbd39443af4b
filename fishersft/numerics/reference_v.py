"""V-optimal greedy close to its definition: slow, and what `v_optimal.v_optimal_greedy` must equal.

A reduction is the difference of two traces of dense inverses, in float64. It errs by about dim * eps * (condition
number of A) times the variance, so blocks that are equal but for the order of their tokens need not tie here (see
`reference`).
"""

from __future__ import annotations

import numpy as np
import torch

from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.greedy import BudgetUnit, Picks, Progress, Rule
from fishersft.numerics.information import scaled
from fishersft.numerics.v_optimal import check_moment, unit_of_comparison


def naive_v_optimal(
    blocks: TokenBlocks,
    budget: int,
    target_moment: torch.Tensor,
    *,
    budget_unit: BudgetUnit = "sentences",
    rule: Rule = "gain",
    regularization: float = 1.0,
    on_progress: Progress | None = None,
) -> Picks:
    """In every step evaluate every block that may be chosen, and take the one that takes most off the variance.

        i_t = argmax over i of tr(A_(t-1)^-1 M) - tr((A_(t-1) + X_i^T X_i)^-1 M)

    Args: as of `selection.select` and `v_optimal_greedy`; starts from the prior alone.
    Cost: picks * blocks * dim^2 (dim + tokens).

    Example:
        >>> pool = TokenBlocks(torch.tensor([[9.0, 0.0], [0.0, 1.0]]), torch.arange(3))
        >>> naive_v_optimal(pool, 1, torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))).gains
        [0.5]
    """
    check_moment(target_moment, blocks)
    moment = target_moment.cpu()
    picks = Picks(blocks.lengths.numpy(), blocks.dim, budget, budget_unit, rule, on_progress)
    information = torch.eye(blocks.dim, dtype=torch.float64)
    weights = picks.weights * unit_of_comparison(_variance(information, moment))
    while picks.open.any():
        variance = _variance(information, moment)
        best, best_score = -1, -np.inf
        for i in np.flatnonzero(picks.open):
            block = scaled(blocks[int(i)], regularization).cpu()
            gain = max(0.0, variance - _variance(information + block.T @ block, moment))
            picks.evaluations += 1
            if picks.beats(gain / weights[i], best_score):
                best, best_gain, best_score = int(i), gain, gain / weights[i]
        chosen = scaled(blocks[best], regularization).cpu()
        information += chosen.T @ chosen
        picks.take(best, best_gain)
    return picks


def _variance(information: torch.Tensor, moment: torch.Tensor) -> float:
    return float(torch.trace(torch.linalg.inv(information) @ moment))
