"""V-optimal selection: greedy on the mean prediction variance over a target set.

Where D-optimal selection asks for information in every direction, V-optimal asks for it where a target set (a
held-out set, or a sample of what the model will be used on) has its prelogit embeddings y:

    minimise tr(A_S^-1 M),  M = (1 / tokens) sum of y y^T: the mean of y^T A_S^-1 y over the target's tokens

What a block takes off it is never negative, but the criterion is not submodular: a block may take off more after
another one is chosen. So greedy has no share of the optimum that it is proven to reach, a lazy evaluation may miss
the best block, and no prefix of a selection certifies it: the certificates of `certificates` are about D-optimality.

Source: Chaloner and Verdinelli (1995), "Bayesian experimental design: a review", section 2 (also called I-optimality);
Krause, Singh and Guestrin (2008), JMLR 9, section 2 (variance reduction is not submodular in general). The batching is
this project's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks, elements_at_once
from fishersft.numerics.certificates import row_chunks
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import scaled, updated_cholesky

REFRESH = 64  # picks after which a lazy run looks at every block anew; it goes on from a multiple of that
_BATCH = 64  # stale blocks looked at together
_BATCH_ELEMENTS = 1 << 20  # padded tokens times dim in one tensor: 8 MiB in float64
_LENGTH_STEP = 8  # blocks are padded to the longest of those whose lengths fall into the same step
_TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie
_EPS = 4 * torch.finfo(torch.float64).eps


def second_moment(target: Blocks, regularization: float = 1.0) -> torch.Tensor:
    """M / lambda, the uncentred second moment of the target's tokens on the scale of the blocks.

        (1 / tokens) sum of y y^T / lambda

    Blocks are divided by sqrt(lambda) throughout (see `information.scaled`), and so are the target's rows: as
    tr((lambda A)^-1 lambda M) = tr(A^-1 M), the variance is that of the unscaled matrices.

    Args:
        target: the token blocks of the target set; how its tokens are cut into blocks does not matter.
        regularization: lambda > 0, that of the selection.

    Returns:
        (dim, dim), float64, symmetric, on the target's device.

    Raises:
        InputError: the target holds no token, or NaN or infinity.

    Cost: dim^2 per token, in chunks of rows.

    Example:
        >>> second_moment(TokenBlocks(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 2])), regularization=2.0)
        tensor([[1.0000, 0.0000],
                [0.0000, 4.0000]], dtype=torch.float64)
    """
    if int(target.offsets[-1]) == 0:
        raise InputError("the target set holds no token, so there is no variance to reduce; give at least one sentence")
    target.check_finite()
    total = torch.zeros(target.dim, target.dim, dtype=torch.float64, device=target.device)
    for part, _ in row_chunks(target):
        rows = scaled(part, regularization)
        total += rows.T @ rows
    return total / int(target.lengths.sum())


def moment_factor(moment: torch.Tensor) -> torch.Tensor:
    """R with M = R^T R, one row for each direction in which the target has energy.

    Args:
        moment: M, (dim, dim), float64, symmetric, positive semidefinite up to rounding.

    Returns:
        (rank, dim), float64. Eigenvalues under dim * eps * the largest are rounding and left out.

    Cost: dim^3, once.

    Example:
        >>> moment_factor(torch.diag(torch.tensor([0.0, 9.0], dtype=torch.float64))).abs()
        tensor([[0., 3.]], dtype=torch.float64)
    """
    values, vectors = torch.linalg.eigh(moment)
    kept = values > len(moment) * torch.finfo(torch.float64).eps * values[-1].clamp(min=0)
    return values[kept].sqrt()[:, None] * vectors[:, kept].T


def prediction_variance(cholesky: torch.Tensor, moment_factor: torch.Tensor) -> float:
    """tr(A^-1 M) = |L^-1 R^T|^2, the mean prediction variance over the target set.

    Args:
        cholesky: L, (dim, dim), float64, lower triangular, A = L L^T.
        moment_factor: R, (rank, dim), float64, M = R^T R.

    Cost: dim^2 rank.

    Example:
        >>> prediction_variance(2 * torch.eye(1, dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64))
        2.25
    """
    return float(torch.linalg.solve_triangular(cholesky, moment_factor.T, upper=False).square().sum())


def variance_reduction(cholesky: torch.Tensor, block: torch.Tensor, moment_factor: torch.Tensor) -> float:
    """What one token block takes off the mean prediction variance.

        tr(A^-1 M) - tr((A + X^T X)^-1 M) = tr(K^-1 X A^-1 M A^-1 X^T) = sum_k s_k^2 / (1 + s_k^2) |R L^-T u_k|^2

    with A = L L^T, K = I + X A^-1 X^T, M = R^T R, and s_k, u_k the singular values and left singular vectors of
    the whitened block W = L^-1 X^T. A sum of squares has no difference of large numbers in it, and the SVD does
    not square the condition number as K would.

    Args:
        cholesky: L, (dim, dim), float64, lower triangular.
        block: X, (tokens, dim), any float dtype; computed in float64.
        moment_factor: R, (rank, dim), float64; see `moment_factor`.

    Returns:
        The reduction, >= 0, a variance in the units of tr(A^-1 M) (without dimension: x^T A^-1 x).

    Cost: 2 dim^2 tokens, rank dim min(dim, tokens), and the SVD: dim tokens min(dim, tokens).
    Source: the Woodbury identity; see this module.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> round(variance_reduction(one, 2 * one, 3 * one), 12)  # 9 / 1 - 9 / (1 + 4)
        7.2
    """
    whitened = torch.linalg.solve_triangular(cholesky, block.to(cholesky).T, upper=False)
    directions, singular, _ = torch.linalg.svd(whitened, full_matrices=False)
    shares = singular / (1 + singular.square()).sqrt()
    towards_target = moment_factor @ torch.linalg.solve_triangular(cholesky.T, directions, upper=True)
    return float((towards_target * shares).square().sum())


def v_optimal_greedy(
    blocks: Blocks,
    picks: Picks,
    target_moment: torch.Tensor,
    *,
    cholesky: torch.Tensor | None = None,
    regularization: float = 1.0,
    every_block: bool = True,
    device: torch.device | str = "cpu",
) -> None:
    """Greedy on the reduction of the mean prediction variance over a target set.

        i_t = argmax over i of tr(A_(t-1)^-1 M) - tr((A_(t-1) + X_i^T X_i)^-1 M)

    With `every_block` every open block is evaluated in each step: exact greedy, the picks of
    `reference_v.naive_v_optimal`. Without it the evaluation is lazy: a reduction computed in an earlier step is taken
    to bound today's, and only blocks whose old one reaches the best seen are looked at again, a batch at a time; all
    of them every 64 picks. The criterion is not submodular, so that is a heuristic: a block whose reduction grew since
    may be missed, and the picks may be worse than those of exact greedy. Neither has a guarantee, nor a certificate
    (see this module).

    Reductions are computed for many blocks together, as intervals that allow for rounding; then those that may tie
    one by one, by the same code for each, so that the lower index wins.

    Args:
        blocks: the pool; computed in float64.
        picks: the budget and conditions; filled by this. Its gains are reductions of tr(A^-1 M), not nats.
        target_moment: M, (dim, dim), float64, of the target's rows divided by sqrt(lambda); see `second_moment`.
        cholesky: (dim, dim), float64; L with A_0 = lambda L L^T, where A_0 is more than lambda I.
        regularization: lambda > 0, the prior's weight.
        every_block: exact rather than lazy.
        device: where to compute.

    Raises:
        InputError: the target's dim is not that of the blocks.

    Cost: for each evaluation dim (dim + rank) tokens and tokens^2 (dim + rank), rank that of M. Beside the
        values and a few matrices of dim^2 about 50 MiB, or some copies of the longest block where that is more.
    Source: as of this module.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[9.0, 0.0], [0.0, 1.0]]), torch.arange(3))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=1)
        >>> target = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))  # all in the second direction
        >>> v_optimal_greedy(pool, picks, target)
        >>> picks.indices
        [1]
    """
    check_moment(target_moment, blocks)
    cholesky = (torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky).to(device)
    for index in picks.indices:
        cholesky = updated_cholesky(cholesky, scaled(blocks[index], regularization))
    root = moment_factor(target_moment.to(device))
    lower, upper = np.zeros(len(blocks)), np.full(len(blocks), np.inf)

    while picks.open.any():
        if every_block or len(picks.indices) % REFRESH == 0:
            upper[:] = np.inf  # nothing is known of today's reductions
        stale, threshold = picks.open.copy(), -np.inf
        whitened_root = torch.linalg.solve_triangular(cholesky, root.T, upper=False)
        while (batch := _highest(upper / picks.weights, stale, threshold)).size:
            lower[batch], upper[batch] = _reduction_intervals(blocks, batch, cholesky, whitened_root, regularization)
            picks.evaluations += len(batch)
            stale[batch] = False
            threshold = max(threshold, (lower / picks.weights)[batch].max())

        best, best_gain, best_score = -1, 0.0, -np.inf
        for i in np.flatnonzero(picks.open & ~stale & (upper / picks.weights >= threshold)):
            if not picks.beats(upper[i] / picks.weights[i], best_score):
                continue
            if best >= 0 and torch.equal(blocks[int(i)], blocks[best]):
                continue  # a copy of the best so far, which has the lower index
            upper[i] = gain = variance_reduction(cholesky, scaled(blocks[int(i)], regularization), root)
            picks.evaluations += 1
            if picks.beats(gain / picks.weights[i], best_score):
                best, best_gain, best_score = int(i), gain, gain / picks.weights[i]
        if picks.take(best, best_gain):
            cholesky = updated_cholesky(cholesky, scaled(blocks[best], regularization))


def check_moment(target_moment: torch.Tensor, blocks: Blocks) -> None:
    """InputError if the target's second moment is not of these blocks' dim."""
    if target_moment.shape != (blocks.dim, blocks.dim):
        raise InputError(
            f"the target's second moment has shape {tuple(target_moment.shape)}, the token blocks have dim "
            f"{blocks.dim}; were both embedded with the same model (and projection)?"
        )


def _highest(upper: np.ndarray, stale: np.ndarray, threshold: float) -> np.ndarray:
    """The stale blocks with the highest values from the threshold up: a batch, or all that nothing is known of."""
    among = np.flatnonzero(stale & (upper >= threshold))
    unknown = among[np.isinf(upper[among])]
    if unknown.size or among.size <= _BATCH:
        return unknown if unknown.size else among
    return among[np.argpartition(-upper[among], _BATCH)[:_BATCH]]


def _reduction_intervals(
    blocks: Blocks,
    indices: np.ndarray,
    cholesky: torch.Tensor,
    whitened_root: torch.Tensor,
    regularization: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the reductions of some blocks, none of them empty, by batches of like length."""
    lower, upper = np.empty(len(indices)), np.empty(len(indices))
    for part, rows in _padded_batches(blocks, indices):
        bounds = _batch_intervals(scaled(rows.to(cholesky.device), regularization), cholesky, whitened_root)
        lower[part], upper[part] = bounds.cpu().numpy()
    return lower, upper


def _padded_batches(blocks: Blocks, indices: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Positions in `indices`, and the rows of those blocks as (blocks, tokens, dim), the shorter filled with zeros."""
    rows_in = blocks.offsets.diff().numpy()[indices]
    steps = -(-rows_in // _LENGTH_STEP)
    order = np.argsort(steps, kind="stable")
    for like in np.split(order, np.flatnonzero(np.diff(steps[order])) + 1):
        at_once = max(1, elements_at_once(blocks, _BATCH_ELEMENTS) // (int(rows_in[like].max()) * blocks.dim))
        for start in range(0, len(like), at_once):
            part = like[start : start + at_once]
            rows = blocks.rows_of(indices[part])
            yield part, pad_sequence(list(rows.split(rows_in[part].tolist())), batch_first=True)


def _batch_intervals(rows: torch.Tensor, cholesky: torch.Tensor, whitened_root: torch.Tensor) -> torch.Tensor:
    """(2, blocks): bounds of |C^-1 W^T L^-1 R^T|^2 with C C^T = K = I + W^T W, for each block.

    Rows of zeros add nothing. A block longer than dim is replaced by the triangle of its QR, which has the same W W^T.

    As K is at least I, an error of delta in it is a relative one of delta in the reduction; one of L^-1 R^T goes in as
    it is, and one of W times |L^-1 R^T|, as |K^-1/2 W^T| is under 1. As in `lazy`, 4 times the usual size of these
    errors is allowed for; where rounding leaves no factor at all, the bounds are 0 and infinity.
    """
    batch, tokens, dim = rows.shape
    energy = rows.square().sum((1, 2))
    whitened = torch.linalg.solve_triangular(cholesky, rows.view(-1, dim).T, upper=False).T.reshape(batch, tokens, dim)
    if tokens > dim:
        whitened = torch.linalg.qr(whitened, mode="r").R
    side = whitened.shape[1]
    gram = whitened @ whitened.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    factor, failed = torch.linalg.cholesky_ex(gram + torch.eye(side).to(gram))
    towards_target = torch.linalg.solve_triangular(factor, whitened @ whitened_root, upper=False)
    reduction = towards_target.square().sum((1, 2))

    relative = _TIE_WINDOW + _EPS * side * (1 + trace)
    noise = _EPS * whitened_root.norm() * (dim**0.5 + (side * energy).sqrt())
    error = relative * reduction + 2 * reduction.sqrt() * noise + noise.square()
    known = (failed == 0) & (relative < 0.1) & reduction.isfinite()
    lower = torch.where(known, (reduction - error).clamp(min=0), 0.0)
    return torch.stack([lower, torch.where(known, reduction + error, torch.inf)])
