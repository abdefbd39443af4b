"""Certificates: how near a selection is to the best possible, by proven upper bounds on the optimum.

Write f(S) for the information gain of a set of blocks. f is monotone and submodular, so for any set T and the
optimum O of a budget

    f(O) <= f(T) + sum over i in O of (f(T + i) - f(T)) <= f(T) + the most that gains after T can add up to

within the budget: the `budget` largest gains, or with a token budget the fractional knapsack. That is the
prefix bound, T being a prefix of the selection. `relaxation.frank_wolfe_bound` is the tighter one.

Rounding. Every bound here must hold for the numbers as they are, not only in exact arithmetic. An upper bound
may be proven with any positive definite matrix in the place of A_T, so what a computed factor lacks is no gap in
the proof; what is left is the rounding of a few products, for which the standard worst-case bounds are added
(Higham, Accuracy and Stability of Numerical Algorithms, sections 3.1, 3.5 and 10.1). All is in float64.

Source: Leskovec et al. (2007), "Cost-effective outbreak detection in networks", section 3.2 (the online bound);
Nemhauser, Wolsey and Fisher (1978).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks, elements_at_once
from fishersft.numerics.greedy import BudgetUnit
from fishersft.numerics.information import scaled, updated_cholesky

EPS = torch.finfo(torch.float64).eps  # twice the unit roundoff, so that second-order terms are covered too
_PREFIXES = 8  # looked at beside the empty one, evenly spaced
_CHUNK_ELEMENTS = 1 << 22  # float64 values of blocks held at once: 32 MiB
_PREFIX_ALLOWANCE = 1e-9  # relative; for the rounding of the gains that a greedy run brings along


@dataclass(frozen=True)
class Certificate:
    """A proven upper bound on the information gain that any selection within a budget can reach.

    Attributes:
        information_gain: of the selection that is certified, in nats.
        upper_bound: on the optimum of the same blocks, budget and regularization, in nats.
        method: how it was proven: "prefix" (submodularity) or "frank-wolfe" (the dual of the relaxation).

    Example:
        >>> str(Certificate(information_gain=9.61, upper_bound=10.0, method="prefix"))
        'at least 96.1% of the best possible'
    """

    information_gain: float
    upper_bound: float
    method: Literal["prefix", "frank-wolfe"]

    @property
    def ratio(self) -> float:
        """The proven share of the optimum, from 0 to 1; 1 where nothing can be gained at all."""
        return min(1.0, self.information_gain / self.upper_bound) if self.upper_bound > 0 else 1.0

    def __str__(self) -> str:
        tenths = math.floor(1000 * self.ratio + 1e-3)  # never rounded up, but for a millionth: the rounding allowance
        return f"at least {tenths / 10:.1f}% of the best possible"


class PrefixBound:
    """The smallest prefix bound so far of a greedy run, from the upper bounds the run holds anyway.

    Gains computed for an earlier prefix bound those of a later one from above, so what a lazy greedy has at hand
    proves a bound too, if a looser one. It may be updated after any picks, not only all: each update holds alone.

    Args:
        budget: of the run, >= 1, sentences or tokens.
        budget_unit: which of the two.
        lengths: (n,), int64; tokens in each block.

    Attributes:
        value: the bound in nats; infinity before the first update.

    Cost of an update: O(n) for sentences, O(n log n) for tokens: about 15 and 110 ms for a million blocks, so there
    update at some picks only, such as those a hundredth of the budget apart.

    Example:
        >>> bound = PrefixBound(2, "sentences", np.array([1, 1, 1]))
        >>> bound.update(0.0, np.array([3.0, 2.0, 1.0]))  # before the first pick
        >>> bound.update(3.0, np.array([0.0, 1.0, 0.5]))  # after it
        >>> round(bound.value, 6)
        4.5
    """

    def __init__(self, budget: int, budget_unit: BudgetUnit, lengths: np.ndarray) -> None:
        self.value = math.inf
        self._budget = budget
        self._budget_unit = budget_unit
        self._lengths = np.asarray(lengths)

    def update(self, information_gain: float, upper_bounds: np.ndarray, factor_norm: float = 0.0) -> None:
        """Take in what is known after one prefix.

        Args:
            information_gain: of the prefix, in nats; right to 1e-9 relative and to what
            factor_norm: |L| of the information matrix, times 8 eps, is: allowances are made for both.
            upper_bounds: (n,), nats; at least the marginal gain after the prefix, of every block that any
                selection within the budget may hold: also of those that no longer fit what is left of it. 0 for
                the prefix's own blocks and those excluded from the problem. Infinity where nothing is known.
        """
        bound = information_gain + largest_total(upper_bounds, self._lengths, self._budget, self._budget_unit)
        self.value = min(self.value, bound * (1 + _PREFIX_ALLOWANCE + 8 * EPS * factor_norm))


def prefix_bound(
    blocks: Blocks,
    selection_indices: Sequence[int] | np.ndarray,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
) -> Certificate:
    """Certify a selection, whoever made it, by the prefix bound at 9 of its prefixes.

    Args:
        blocks: (N blocks), the pool the selection was made from, all of it; on any device, computed there.
        selection_indices: (n,), distinct; what was selected, in order. It may leave some of the budget unused.
        budget: >= 1, of the optimum to compare with.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0.

    Raises:
        InputError: the selection is not one of these blocks, or costs more than the budget.

    Cost: 9 * 2 * dim^2 for each token of the pool.
    Source: as of this module; the choice of prefixes is this project's.

    Example:
        >>> prefix_bound(TokenBlocks(torch.eye(3), torch.arange(4)), [0, 1], budget=2).ratio > 0.999999
        True
    """
    selected = checked_selection(blocks, selection_indices, budget, budget_unit)
    lengths = blocks.lengths.numpy()
    outside = np.ones(len(blocks), dtype=bool)
    cholesky = torch.eye(blocks.dim, dtype=torch.float64, device=blocks.device)
    best, taken = math.inf, 0
    for prefix in np.unique(np.linspace(0, len(selected), _PREFIXES + 1).astype(int)):
        for index in selected[taken:prefix]:
            cholesky = updated_cholesky(cholesky, scaled(blocks[int(index)], regularization))
        outside[selected[taken:prefix]] = False
        taken = prefix
        whitener = inverse(cholesky)
        so_far = _information_gain_bound(blocks, selected[:prefix], whitener, regularization)
        gains = np.where(outside, _gain_bounds(blocks, whitener, regularization), 0.0)
        best = min(best, (so_far + largest_total(gains, lengths, budget, budget_unit)) * (1 + 4 * EPS))
    return Certificate(information_gain(blocks, selected, regularization), best, "prefix")


def largest_total(values: np.ndarray, lengths: np.ndarray, budget: int, budget_unit: BudgetUnit) -> float:
    """max <values, v> over 0 <= v <= 1 with sum v (or <lengths, v>) <= budget; rounded up, never down.

    Args:
        values: (n,), >= 0. Values of blocks that no selection may hold (no tokens, or more than a budget in
            tokens) do not count.
        lengths: (n,), int64.
    """
    allowance = 1 + (min(budget, len(values)) + 8) * EPS
    if budget_unit == "sentences":
        values = np.where(lengths > 0, values, 0.0)
        largest = np.partition(values, -budget)[-budget:] if budget < len(values) else values
        return float(largest.sum()) * allowance
    may_be_held = np.flatnonzero((lengths > 0) & (lengths <= budget))
    values, costs = values[may_be_held], lengths[may_be_held]
    density = values / costs
    order = np.argsort(-density)
    spent = costs[order].cumsum()
    whole = int(np.searchsorted(spent, budget, side="right"))
    total = values[order[:whole]].sum()
    if whole < len(order):
        left = budget - (spent[whole - 1] if whole else 0)
        total += left * density[order[whole]] if left else 0.0
    return float(total) * allowance


def checked_selection(
    blocks: Blocks, indices: Sequence[int] | np.ndarray, budget: int, budget_unit: BudgetUnit
) -> np.ndarray:
    """The selection as (n,) int64, if a certificate for this budget can be about it; else InputError."""
    selected = np.asarray(indices, dtype=np.int64)
    if len(np.unique(selected)) != len(selected):
        raise InputError("the selection names a block twice; a certificate is about sets of blocks")
    if len(selected) and not (selected.min() >= 0 and selected.max() < len(blocks)):
        raise InputError(f"the selection names block {selected.max()} or a negative one; there are {len(blocks)}")
    cost = int(blocks.lengths.numpy()[selected].sum()) if budget_unit == "tokens" else len(selected)
    if cost > budget:
        raise InputError(
            f"the selection costs {cost} {budget_unit}, more than the budget of {budget}; "
            "certify it for the budget it keeps to"
        )
    return selected


def information_gain(blocks: Blocks, selected: np.ndarray, regularization: float) -> float:
    """log det A_S - log det A_0 in nats, by the singular values of the selection's rows.

    Singular values keep the digits of small gains. Each is lowered by its rounding, dim * eps * the largest, so that
    a ratio is not raised by noise where rows are both huge (beyond 1e12 sqrt(lambda)) and dependent.
    """
    triangle = torch.zeros(0, blocks.dim, dtype=torch.float64, device=blocks.device)
    tallest = max(1, int(blocks.offsets.diff().max()))
    at_once = max(1, elements_at_once(blocks, _CHUNK_ELEMENTS) // (blocks.dim * tallest))
    for start in range(0, len(selected), at_once):
        rows = [scaled(blocks[int(i)], regularization) for i in selected[start : start + at_once]]
        triangle = torch.linalg.qr(torch.cat([triangle, *rows]), mode="r").R
    singular = torch.linalg.svdvals(triangle)
    noise = blocks.dim * EPS * singular.amax() if len(singular) else 0.0
    return float((singular - noise).clamp(min=0).square().log1p().sum())


def inverse(cholesky: torch.Tensor) -> torch.Tensor:
    """R = L^-1, (dim, dim), lower triangular. Proofs take R as given: as the whitener of (R^T R)^-1, about A."""
    identity = torch.eye(len(cholesky)).to(cholesky)
    return torch.linalg.solve_triangular(cholesky, identity, upper=False).tril()


def row_chunks(blocks: Blocks) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All rows in chunks that are small enough to hold in float64, and the block each row belongs to."""
    offsets = blocks.offsets.to(blocks.device)
    for start, rows in blocks.chunks():
        numbers = torch.arange(start, start + len(rows), device=offsets.device)
        yield rows, torch.searchsorted(offsets, numbers, right=True) - 1


def _information_gain_bound(blocks: Blocks, prefix: np.ndarray, whitener: torch.Tensor, regularization: float) -> float:
    """At least log det A_T - log det A_0 + what else has to be added when (R^T R)^-1 stands for A_T.

    If R A_T R^T <= (1 + delta) I then log det(A_T + Z) <= dim log(1 + delta) + log det((R^T R)^-1 + Z) for any
    positive Z. delta is measured, with an allowance for rounding.
    """
    if len(prefix) == 0:
        return 0.0
    keep = np.zeros(len(blocks))
    keep[prefix] = 1.0
    keep_rows = torch.from_numpy(keep).to(whitener.device)
    excess = whitener @ whitener.T - torch.eye(blocks.dim).to(whitener)
    energy = 0.0
    for part, owner in row_chunks(blocks):
        rows = scaled(part[keep_rows[owner] > 0], regularization)
        whitened = rows @ whitener.T
        excess += whitened.T @ whitened
        energy += float(rows.square().sum())
    size = float(whitener.norm())
    tokens = int(blocks.offsets.diff().numpy()[prefix].sum())
    error = (blocks.dim + 4) * EPS * math.sqrt(energy) * size
    whitened_norm = math.sqrt(blocks.dim) + error
    rounding = 2 * whitened_norm * error + error**2 + (blocks.dim + tokens + 8) * EPS * (size**2 + 2 * whitened_norm**2)
    delta = float(excess.norm()) * (1 + blocks.dim**2 * EPS) + rounding
    logs = whitener.diagonal().abs().log()
    return -2 * float(logs.sum()) + blocks.dim * (math.log1p(delta) + EPS * float(2 * logs.abs().sum()))


def _gain_bounds(blocks: Blocks, whitener: torch.Tensor, regularization: float) -> np.ndarray:
    """(n,) nats; at least log det(I + W W^T), W = X_i R^T: blocks of as many rows together, in batches."""
    gains = np.zeros(len(blocks))
    sizes = blocks.offsets.diff().numpy()
    for size in np.unique(sizes[sizes > 0]):
        members = np.flatnonzero(sizes == size)
        at_once = max(1, elements_at_once(blocks, _CHUNK_ELEMENTS) // (int(size) * blocks.dim))
        for start in range(0, len(members), at_once):
            batch = members[start : start + at_once]
            rows = scaled(blocks.rows_of(batch), regularization).view(len(batch), int(size), blocks.dim)
            gains[batch] = _batch_gain_bounds(rows, whitener).cpu().numpy()
    return gains


def _batch_gain_bounds(rows: torch.Tensor, whitener: torch.Tensor) -> torch.Tensor:
    """The smaller of two bounds: log det by Cholesky with its rounding; and rank * log(1 + tr G / rank).

    W errs by at most `error` in the Frobenius norm, so its singular values s do, and log(1 + s^2) grows by less
    than s. I + G is at least I, so an error of Delta in it and its factor costs sqrt(rank) Delta / (1 - Delta).
    """
    _, tokens, dim = rows.shape
    rank = min(tokens, dim)
    error = (dim + 4) * EPS * rows.square().sum((1, 2)).sqrt() * whitener.norm() * (1 + tokens * dim * EPS)
    whitened = rows @ whitener.T
    trace = whitened.square().sum((1, 2)) * (1 + (tokens * dim + 4) * EPS)
    by_trace = rank * ((trace.sqrt() + error).square() / rank).log1p() * (1 + 16 * EPS)

    gram = whitened @ whitened.mT if tokens <= dim else whitened.mT @ whitened
    factor, failed = torch.linalg.cholesky_ex(gram + torch.eye(rank).to(gram))
    delta = (dim + tokens + 2 * rank + 10) * EPS * (rank + trace)
    gain = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) * (1 + (rank + 8) * EPS)
    by_factor = gain + math.sqrt(rank) * (error + 1.2 * delta)
    trusted = (failed == 0) & (delta < 0.1) & by_factor.isfinite()
    return torch.where(trusted, torch.minimum(by_factor, by_trace), by_trace)
