"""The Frank-Wolfe bound: the dual of the continuous relaxation of D-optimal selection.

The relaxation lets a block be chosen in part:

    maximise F(w) = log det A(w),  A(w) = I + sum_i w_i X_i^T X_i,   0 <= w_i <= 1, sum w_i (or w_i tokens_i) <= budget

(blocks divided by sqrt(lambda)), so its optimum is at least that of the selection. F is concave, with gradient
g_i = tr(X_i A^-1 X_i^T), hence for every feasible w

    optimum <= F(w) + max over feasible v of <g, v> - <g, w>                       (the Frank-Wolfe gap)

The same from duality, which is how it is computed: log det A <= -log det Y - dim + tr(A Y) for *any* positive
definite Y. With Y = s A(w)^-1 and the best s this gives F(w) + dim log(1 + gap / dim), which is never more than the
line above. And since any Y will do, no inexactness of w, of A(w) or of its factor can invalidate the bound: only
the rounding of tr(X_i Y X_i^T) and of log det Y counts, and is allowed for (see `certificates`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.certificates import (
    EPS,
    Certificate,
    checked_selection,
    information_gain,
    inverse,
    largest_total,
    row_chunks,
)
from fishersft.numerics.greedy import BudgetUnit
from fishersft.numerics.information import scaled

_BISECTIONS = 60  # halves an interval to the last digit of float64


def frank_wolfe_bound(
    blocks: Blocks,
    selection_indices: Sequence[int] | np.ndarray,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    time_limit: float = math.inf,
    max_iterations: int = 50,
    relative_gap: float = 1e-4,
    clock: Callable[[], float] = time.monotonic,
    on_progress: Callable[[int, float], None] | None = None,
) -> Certificate:
    """Certify a selection by the dual of the continuous relaxation; the best bound over the iterations counts.

    The iterates are those of the spectral projected gradient method with exact line search, which reaches in 20
    iterations what Frank-Wolfe steps take hundreds for; they begin at the selection.

    Args:
        blocks: (N blocks), the pool the selection was made from, all of it; on any device, computed there.
        selection_indices: (n,), distinct; what was selected, within the budget.
        budget: >= 1, of the optimum to compare with.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0.
        time_limit: seconds after which no further iteration begins. The first always runs.
        max_iterations: steps, beyond the look at the selection itself.
        relative_gap: stop when the bound is as near as this to the relaxation's optimum, its limit.
        clock: tells seconds.
        on_progress: called as on_progress(iteration, best bound so far in nats).

    Raises:
        InputError: the selection is not one of these blocks, or costs more than the budget.

    Cost of an iteration: 2 dim^2 for each token of the pool and 2 dim^2 for each whose weight changes; about
    10 dim^3.
    Source: Frank and Wolfe (1956); Jaggi (2013), "Revisiting Frank-Wolfe"; for D-optimal design Fedorov (1972),
    Wynn (1970); the iterates, Birgin, Martinez and Raydan (2000), "Nonmonotone spectral projected gradient methods
    on convex sets".

    Example:
        >>> frank_wolfe_bound(TokenBlocks(torch.eye(3), torch.arange(4)), [0], budget=1).upper_bound  # 3 log(4 / 3)
        0.863...
    """
    started = clock()
    selected = checked_selection(blocks, selection_indices, budget, budget_unit)
    lengths = blocks.lengths.numpy()
    costs = lengths if budget_unit == "tokens" else np.ones_like(lengths)
    candidates = (lengths > 0) & (costs <= budget)
    identity = torch.eye(blocks.dim, dtype=torch.float64, device=blocks.device)
    energies = _energies(blocks, identity, regularization)
    best = _dual_bound(identity, energies, energies, lengths, budget, budget_unit)

    weights = np.zeros(len(blocks))
    weights[selected] = 1.0
    information = identity + _weighted_moment(blocks, weights, regularization)
    step_length, previous = 0.0, None
    for iteration in range(max_iterations + 1):
        whitener = _inverse_factor(information)
        gradient = np.where(candidates, _energies(blocks, whitener, regularization), 0.0)
        best = min(best, _dual_bound(whitener, gradient, energies, lengths, budget, budget_unit))
        if on_progress is not None:
            on_progress(iteration, best)
        relaxed = -2 * float(whitener.diagonal().log().sum())
        if iteration == max_iterations or best - relaxed <= relative_gap * best or clock() - started >= time_limit:
            break
        step_length = _spectral_step(weights, gradient, costs, previous)
        direction = _project(weights + step_length * gradient / costs.clip(1), costs, budget, candidates) - weights
        change = _weighted_moment(blocks, direction, regularization)
        share = _line_search(whitener @ change @ whitener.T)
        if share == 0:
            break  # no direction of ascent is left: at the optimum, to rounding
        previous = weights, gradient
        weights = weights + share * direction
        information = information + share * change
    return Certificate(information_gain(blocks, selected, regularization), best, "frank-wolfe")


def _dual_bound(
    whitener: torch.Tensor,
    gradient: np.ndarray,
    energies: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    budget_unit: BudgetUnit,
) -> float:
    """An upper bound on the optimum from Y = R^T R, R the whitener: valid for any R with a positive diagonal.

    Args:
        whitener: R, (dim, dim), float64, lower triangular.
        gradient: (n,); computed |X_i R^T|^2.
        energies: (n,); computed |X_i|^2.

    X_i R^T errs by at most (dim + 4) eps |X_i| |R|, its norm's square by tokens * dim * eps relative. tr Y - dim is
    summed from terms that vanish for R = I, so that a gain far under eps is bounded well too.
    """
    dim = len(whitener)
    error = 0.0 if _is_identity(whitener) else (dim + 4) * EPS * float(whitener.norm())
    terms = lengths * dim + 8
    gradient_bound = (np.sqrt(gradient * (1 + terms * EPS)) + error * np.sqrt(energies * (1 + terms * EPS))) ** 2
    total = largest_total(gradient_bound * (1 + 8 * EPS), lengths, budget, budget_unit)
    diagonal = whitener.diagonal()
    surplus = torch.cat([(diagonal - 1) * (diagonal + 1), whitener.tril(-1).square().sum(1)])
    logs = 2 * diagonal.log()
    rounding = (dim + 8) * EPS * float(surplus.abs().sum() + logs.abs().sum() + total)
    return -float(logs.sum()) + dim * math.log1p((float(surplus.sum()) + total) / dim) + rounding


def _energies(blocks: Blocks, whitener: torch.Tensor, regularization: float) -> np.ndarray:
    """(n,); |X_i R^T|^2 of every block: the gradient, for R^T R = A^-1."""
    energies = torch.zeros(len(blocks), dtype=torch.float64, device=whitener.device)
    plain = _is_identity(whitener)
    for part, owner in row_chunks(blocks):
        rows = scaled(part, regularization)
        energies.index_add_(0, owner, (rows if plain else rows @ whitener.T).square().sum(1))
    return energies.cpu().numpy()


def _is_identity(matrix: torch.Tensor) -> bool:
    return torch.equal(matrix, torch.eye(len(matrix)).to(matrix))


def _weighted_moment(blocks: Blocks, weights: np.ndarray, regularization: float) -> torch.Tensor:
    """sum_i weights_i X_i^T X_i, (dim, dim); only the rows of blocks with a weight are looked at."""
    device = blocks.device
    moment = torch.zeros(blocks.dim, blocks.dim, dtype=torch.float64, device=device)
    block_weights = torch.from_numpy(weights).to(device)
    for part, owner in row_chunks(blocks):
        row_weights = block_weights[owner]
        used = row_weights != 0
        rows = scaled(part[used], regularization)
        moment += (rows * row_weights[used, None]).T @ rows
    return moment


def _inverse_factor(information: torch.Tensor) -> torch.Tensor:
    """R with R^T R = A^-1; of a matrix a little larger where rounding has left A without a factor."""
    factor, failed = torch.linalg.cholesky_ex(information)
    identity = torch.eye(len(information)).to(information)
    added = EPS * float(information.diagonal().mean())
    while int(failed):
        added *= 10
        factor, failed = torch.linalg.cholesky_ex(information + added * identity)
    return inverse(factor)


def _spectral_step(
    weights: np.ndarray, gradient: np.ndarray, costs: np.ndarray, previous: tuple[np.ndarray, np.ndarray] | None
) -> float:
    """The step length of Barzilai and Borwein: an inverse curvature from the last two iterates.

    Distances weigh each block by its cost, so that steps go by gradient per token; with sentences all count alike.
    """
    if previous is not None:
        moved = weights - previous[0]
        curvature = float(moved @ (previous[1] - gradient))
        if curvature > 0:
            return float(moved @ (costs * moved)) / curvature
    return 1 / max(float((gradient / costs.clip(1)).max()), np.finfo(float).tiny)


def _project(point: np.ndarray, costs: np.ndarray, budget: int, candidates: np.ndarray) -> np.ndarray:
    """The feasible weights nearest by sum costs_i (w_i - point_i)^2: candidates' clip(point - tau, 0, 1), tau >= 0."""
    low, high = 0.0, max(0.0, float(np.max(point, where=candidates, initial=0.0)))
    projected = np.where(candidates, point.clip(0, 1), 0.0)
    if costs @ projected <= budget:
        return projected
    for _ in range(_BISECTIONS):
        tau = (low + high) / 2
        spent = costs @ np.where(candidates, (point - tau).clip(0, 1), 0.0)
        low, high = (tau, high) if spent > budget else (low, tau)
    return np.where(candidates, (point - high).clip(0, 1), 0.0)


def _line_search(whitened_change: torch.Tensor) -> float:
    """The share in [0, 1] of a step that maximises log det(I + share * M); 0 where it does not ascend.

    With mu the eigenvalues of M the derivative is sum mu / (1 + share mu), which falls: bisection.
    """
    if not bool(whitened_change.isfinite().all()):
        return 0.0
    mu = torch.linalg.eigvalsh(whitened_change).cpu().numpy()
    if mu.sum() <= 0:
        return 0.0
    if mu.min() > -1 and (mu / (1 + mu)).sum() >= 0:
        return 1.0
    low, high = 0.0, min(1.0, -1 / mu.min())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if (mu / (1 + middle * mu)).sum() > 0 else (low, middle)
    return low
