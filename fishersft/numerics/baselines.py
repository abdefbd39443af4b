"""What a selection has to beat."""

from __future__ import annotations

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def uniform(
    lengths: np.ndarray | torch.Tensor, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """A uniformly random selection: the first blocks of a seeded random order.

    With a budget in tokens it is the prefix (of at least one block) whose total is nearest to the budget, the
    shorter of two equally near. So the total strays from the budget by at most half a block's length (but for
    a first block longer than the budget), up or down alike, and no block is passed over for being long, as it
    would be by filling up what remains.

    Args:
        lengths: (n,), integers; tokens in each block. Blocks without tokens are never chosen.
        budget: >= 1, in sentences or tokens. More than there are: all blocks.
        budget_unit: "sentences" or "tokens".
        seed: of the order, >= 0. The order does not depend on the budget: a larger one extends a smaller one.

    Returns:
        (k,), int64; positions in `lengths`, in the order drawn.

    Raises:
        InputError: the budget is below 1, or no block holds a token.

    Example:
        >>> sorted(uniform(np.array([4, 0, 4]), 2).tolist())
        [0, 2]
    """
    if budget < 1:
        raise InputError(f"budget must be a whole number of at least 1, not {budget!r}")
    lengths = np.asarray(lengths)
    filled = np.flatnonzero(lengths > 0)
    if filled.size == 0:
        raise InputError("no token block holds a token, so there is nothing to choose from")
    order = np.random.default_rng(seed).permutation(filled)
    if budget_unit == "sentences":
        return order[:budget]
    totals = lengths[order].cumsum()
    return order[: np.abs(totals - budget).argmin() + 1]
