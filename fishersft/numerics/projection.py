"""Optional PCA of the prelogit embeddings to fewer dimensions, with the proven loss.

Write f(S) for the information gain of a set of blocks and f_p(S) for that of the same blocks projected onto p
orthonormal directions. With M the sum of X_i^T X_i over S in a basis that begins with those directions, Fischer's
inequality (the determinant of a positive definite matrix is at most the product of those of its diagonal blocks) gives

    f_p(S) <= f(S) <= f_p(S) + log det(I + M_22 / lambda),   log det(I + M_22 / lambda) <= tr(M_22) / lambda

M_22 being the block of the discarded directions. It holds for any orthonormal directions and any set, so it bounds
what a given selection loses (`projection_loss`), and what the optimum can lose (`optimum_loss_bound`).

Source: Horn and Johnson, Matrix Analysis, theorem 7.8.5 (Fischer).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks, TokenBlocks, elements_at_once
from fishersft.numerics.certificates import EPS, checked_selection, largest_total, row_chunks
from fishersft.numerics.greedy import BudgetUnit
from fishersft.numerics.information import scaled
from fishersft.numerics.mapped import MappedBlocks

_CHUNK_ELEMENTS = 1 << 22  # float64 values held at once: 32 MiB
_ORTHONORMAL = 1e-6  # how far a basis may be from it


@dataclass(frozen=True)
class ProjectionLoss:
    """What a projection can have cost one selection.

    Attributes:
        bound_nats: log det(I + M_22 / lambda), at least f(S) - f_p(S).
        trace_bound_nats: tr(M_22) / lambda, the simpler and looser bound.
        energy_kept: share of the squared norms of the selection's rows that the projection keeps, 0 to 1.
    """

    bound_nats: float
    trace_bound_nats: float
    energy_kept: float


def principal_basis(blocks: Blocks, dims: int) -> torch.Tensor:
    """The directions that hold most energy: top eigenvectors of the uncentred second moment of all rows.

    Uncentred, because the information matrix is: the mean direction carries information too.

    Args:
        blocks: the pool.
        dims: p, how many directions, 1 to dim.

    Returns:
        (dim, dims), float64, orthonormal columns, most energy first, on the blocks' device.

    Raises:
        InputError: dims out of range, no token at all, or NaN or infinity in a block.

    Cost: dim^2 per token, in chunks of rows, and dim^3.

    Example:
        >>> principal_basis(TokenBlocks(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 2])), 1).abs().T
        tensor([[0., 1.]], dtype=torch.float64)
    """
    if isinstance(dims, bool) or not isinstance(dims, numbers.Integral) or not 1 <= dims <= blocks.dim:
        raise InputError(f"a projection must keep a whole number of dimensions from 1 to {blocks.dim}, not {dims!r}")
    if int(blocks.offsets[-1]) == 0:
        raise InputError("no token block holds a token, so there are no principal directions; embed some sentences")
    blocks.check_finite()
    moment = torch.zeros(blocks.dim, blocks.dim, dtype=torch.float64, device=blocks.device)
    for part, _ in row_chunks(blocks):
        rows = part.double()
        moment += rows.T @ rows
    return torch.linalg.eigh(moment).eigenvectors[:, -int(dims) :].flip(1)


def random_basis(dim: int, dims: int) -> torch.Tensor:
    """Random orthonormal directions, always the same: (dim, dims), float64.

    Raises:
        InputError: dims out of range.

    Cost: dim dims^2.
    Source: the first columns of a Haar-distributed orthogonal matrix, by QR of a Gaussian one.

    Example:
        >>> basis = random_basis(5, 2)
        >>> torch.allclose(basis.T @ basis, torch.eye(2, dtype=torch.float64))
        True
    """
    if not 1 <= dims <= dim:
        raise InputError(f"embeddings of dim {dim} can be projected to 1 to {dim} directions, not {dims}")
    draw = torch.randn(dim, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(draw).Q


def unseen_gain_bound(discarded_energy: float, directions: int, regularization: float = 1.0) -> float:
    """At most what a selection gains in directions that were discarded: k log(1 + T / (lambda k)), in nats.

    Args:
        discarded_energy: T, the sum over its tokens of the squared norm in those directions.
        directions: k, how many they are, or how many tokens if those are fewer.
        regularization: lambda > 0.

    Source: Fischer's inequality and the concavity of the logarithm, as of this module.

    Example:
        >>> round(unseen_gain_bound(9.0, 1), 4)  # log(1 + 9)
        2.3026
    """
    return directions * math.log1p(discarded_energy / (regularization * directions)) if directions else 0.0


def projected(blocks: Blocks, basis: torch.Tensor) -> Blocks:
    """The blocks X_i B in the coordinates of a basis; of a pool whose memory is bounded, as a view of it.

    Args:
        blocks: (tokens, dim).
        basis: B, (dim, p), float64, orthonormal columns.

    Returns:
        (tokens, p), float64 for float64 blocks and for a view, else float32; the same offsets, on the blocks' device.

    Raises:
        InputError: the basis is not of these blocks' dim, or not orthonormal.

    Cost: 2 dim p per token, in chunks of rows, computed in float64.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[3.0, 4.0]]), torch.tensor([0, 1]))
        >>> projected(pool, torch.tensor([[0.0], [1.0]], dtype=torch.float64))[0]
        tensor([[4.]])
    """
    _orthonormality_error(basis, blocks)
    basis = basis.to(blocks.device)
    if blocks.memory_for_looks < math.inf:
        return MappedBlocks(blocks, np.arange(len(blocks)), basis)
    dtype = _projected_dtype(blocks)
    values = torch.empty(int(blocks.offsets[-1]), basis.shape[1], dtype=dtype, device=basis.device)
    for start, rows in blocks.chunks():
        values[start : start + len(rows)] = (rows.double() @ basis).to(dtype)
    return TokenBlocks(values, blocks.offsets)


def projection_loss(
    blocks: Blocks,
    indices: Sequence[int] | np.ndarray,
    basis: torch.Tensor,
    regularization: float = 1.0,
) -> ProjectionLoss:
    """Bound what the projection cost a selection S of these blocks: f(S) - f_p(S) <= `bound_nats`.

        log det(I + M_22 / lambda) = sum_k log(1 + s_k^2),  s_k the singular values of (X_S - X_S B B^T) / sqrt(lambda)

    It is about the S that is given, whoever chose it, and says nothing about what the best set would have been without
    the projection: that is `optimum_loss_bound`. Proven in exact arithmetic; that `projected` rounds to float32 is not
    in it.

    Args:
        blocks: the pool before the projection.
        indices: (n,), distinct; the selection S.
        basis: B, (dim, p), float64, orthonormal columns.
        regularization: lambda > 0.

    Raises:
        InputError: a selection that is not of these blocks, or a basis that does not fit them.

    Cost: 2 dim^2 for each token of the selection, by QR in chunks, and dim^3.
    Source: as of this module.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[3.0, 4.0]]), torch.tensor([0, 1]))
        >>> projection_loss(pool, [0], torch.tensor([[0.0], [1.0]], dtype=torch.float64))  # log(1 + 9) and 9
        ProjectionLoss(bound_nats=2.302585092994046, trace_bound_nats=9.0, energy_kept=0.64)
    """
    _orthonormality_error(basis, blocks)
    selected = checked_selection(blocks, indices, len(indices), "sentences")
    basis = basis.to(blocks.device)
    triangle = torch.zeros(0, blocks.dim, dtype=torch.float64, device=basis.device)
    energy, discarded_energy = 0.0, 0.0
    tallest = max(1, int(blocks.offsets.diff().max()))
    at_once = max(1, elements_at_once(blocks, _CHUNK_ELEMENTS) // (blocks.dim * tallest))
    for start in range(0, len(selected), at_once):
        rows = scaled(torch.cat([blocks[int(i)] for i in selected[start : start + at_once]]), regularization)
        discarded = _discarded(rows, basis)
        energy += float(rows.square().sum())
        discarded_energy += float(discarded.square().sum())
        triangle = torch.linalg.qr(torch.cat([triangle, discarded]), mode="r").R
    return ProjectionLoss(
        bound_nats=float(torch.linalg.svdvals(triangle).square().log1p().sum()),
        trace_bound_nats=discarded_energy,
        energy_kept=1 - min(1.0, discarded_energy / energy) if energy > 0 else 1.0,
    )


def optimum_loss_bound(
    blocks: Blocks,
    basis: torch.Tensor,
    budget: int,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
) -> float:
    """Bound f(S) - f_p(S) over all selections S within a budget, so that a certificate of the projection carries over.

        f(S*) <= f_p(S*) + this <= (an upper bound on the optimum of the projected blocks) + this

    for the optimum S* of the blocks before the projection. Of k = min(dim - p, the most tokens the budget can hold)
    discarded directions at most can M_22 of any S have energy in, T = the most that tr(M_22,i) / lambda can add up to,
    so by the concavity of the logarithm

        log det(I + M_22 / lambda) <= k log(1 + T / k) <= T

    Unlike `projection_loss` it goes into a proof about computed numbers, so the rounding of `projected` (to float32 for
    narrow blocks) and of the basis is in it. With E the rounding of the projected rows P of S, f_p errs by at most
    sqrt(p) |E|, as log(1 + s^2) grows by less than s.

    Args:
        blocks: the pool before the projection.
        basis: B, (dim, p), float64, orthonormal columns.
        budget: >= 1, sentences or tokens.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0.

    Returns:
        Nats, >= 0.

    Raises:
        InputError: a basis that does not fit the blocks.

    Cost: 4 dim p for each token of the pool, in chunks of rows.
    Source: as of this module; Higham, Accuracy and Stability of Numerical Algorithms, section 3.5 (the products), and
        Mirsky's theorem (singular values under a perturbation).

    Example:
        >>> pool = TokenBlocks(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.arange(3))
        >>> round(optimum_loss_bound(pool, torch.tensor([[0.0], [1.0]], dtype=torch.float64), 2), 4)  # log(1 + 9 + 1)
        2.3979
    """
    relative = _orthonormality_error(basis, blocks) + (2 * blocks.dim + 8) * EPS
    basis = basis.to(blocks.device)
    dim, kept = basis.shape
    lengths = blocks.lengths.numpy()
    energy, discarded_energy = torch.zeros(2, len(blocks), dtype=torch.float64, device=basis.device)
    for part, owner in row_chunks(blocks):
        rows = scaled(part, regularization)
        norms, discarded_norms = (some.square().sum(1).sqrt() for some in (rows, _discarded(rows, basis)))
        energy.index_add_(0, owner, norms.square())
        discarded_energy.index_add_(0, owner, (discarded_norms + relative * norms).square())

    def most(values: np.ndarray) -> float:
        return largest_total(values, lengths, budget, budget_unit)

    directions = min(dim - kept, int(most(lengths.astype(np.float64))))
    sums = 1 + (dim + int(lengths.max()) + 16) * EPS  # what sums of squares may lack
    total = most(discarded_energy.cpu().numpy()) * sums
    discarded_bound = unseen_gain_bound(total, directions)
    to_dtype = torch.finfo(_projected_dtype(blocks)).eps
    rounding = math.sqrt(kept * most(energy.cpu().numpy()) * sums) * (relative + to_dtype)
    return discarded_bound * sums + rounding


def _discarded(rows: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """(tokens, dim); what of the rows is not in the span of the basis."""
    return rows - (rows @ basis) @ basis.T


def _projected_dtype(blocks: Blocks) -> torch.dtype:
    return torch.float64 if blocks.dtype == torch.float64 else torch.float32


def _orthonormality_error(basis: torch.Tensor, blocks: Blocks) -> float:
    """|B^T B - I|, or InputError for what is no basis of p directions among these blocks' dim."""
    if basis.ndim != 2 or basis.shape[0] != blocks.dim or not 1 <= basis.shape[1] <= blocks.dim:
        raise InputError(
            f"a basis must have shape ({blocks.dim}, p) with p from 1 to {blocks.dim}, not {tuple(basis.shape)}; "
            "was it made from embeddings of the same model?"
        )
    error = float((basis.T @ basis - torch.eye(basis.shape[1]).to(basis)).norm())
    if not error <= _ORTHONORMAL:  # NaN too
        raise InputError(
            f"the columns of a basis must be orthonormal; B^T B is {error:.1e} from the identity: "
            "use principal_basis, or torch.linalg.qr of your directions"
        )
    return error
