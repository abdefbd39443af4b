"""The certificate of a greedy run with conditions, by those for problems without."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.certificates import Certificate, inverse, prefix_bound
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import information_gains_along, scaled, updated_cholesky
from fishersft.numerics.mapped import MappedBlocks
from fishersft.numerics.relaxation import frank_wolfe_bound

CertificateMethod = Literal["prefix", "frank-wolfe"]
_ROUNDING = 1e-9  # relative; of whitening the pool, and of the gain of the blocks that must be included


def certify(
    blocks: Blocks,
    picks: Picks,
    included: int,
    *,
    regularization: float,
    cholesky: torch.Tensor | None,
    method: CertificateMethod,
    time_limit: float,
) -> Certificate:
    """A proven bound on what any selection that meets the same budget and conditions can gain.

    What must be included, and any information there was at the start, is conditioned on: the other blocks are
    whitened by the factor of that information, which leaves a problem with the identity as prior. Blocks that
    conditions rule out are left out. Quotas are not made use of: the bound is then of a problem with more freedom.

    Args:
        blocks: the pool.
        picks: a finished run; its first `included` picks are the blocks that must be included.
        regularization, cholesky: as of the run.
        method: "prefix", or "frank-wolfe" with
        time_limit: its seconds.
    """
    # not the run's own gains: those of the dense references are differences that rounding may leave nothing of
    before = float(information_gains_along(blocks, picks.indices[:included], regularization, cholesky).sum())
    start = torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky.cpu()
    for index in picks.indices[:included]:
        start = updated_cholesky(start, scaled(blocks[index], regularization).cpu())
    others = ~picks.impossible
    others[picks.indices[:included]] = False
    pool: Blocks = blocks
    chosen = np.array(picks.indices[included:], dtype=np.int64)
    conditioned = included > 0 or cholesky is not None
    if conditioned or picks.excludes:
        allowed = np.flatnonzero(others)
        pool = MappedBlocks(blocks, allowed, inverse(start).T)
        chosen = np.searchsorted(allowed, chosen)
    if not len(pool) or picks.free_budget < 1:
        return Certificate(before, before * (1 + _ROUNDING), method)
    if method == "prefix":
        rest = prefix_bound(
            pool, chosen, picks.free_budget, budget_unit=picks.budget_unit, regularization=regularization
        )
    else:
        rest = frank_wolfe_bound(
            pool,
            chosen,
            picks.free_budget,
            budget_unit=picks.budget_unit,
            regularization=regularization,
            time_limit=time_limit,
        )
    if not conditioned:
        return rest
    return Certificate(before + rest.information_gain, (before + rest.upper_bound) * (1 + _ROUNDING), method)
