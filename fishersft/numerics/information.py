"""The information matrix as a Cholesky factor, and what a token block adds to its log determinant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg.lapack import dtpqrt

from fishersft.numerics.blocks import Blocks

_REFLECTORS_AT_ONCE = 32  # LAPACK's block size in the QR update


def block_gain(cholesky: torch.Tensor, block: torch.Tensor) -> float:
    """The marginal gain of one token block.

        log det(A + X^T X) - log det A = log det(I + X A^-1 X^T) = sum_k log(1 + s_k^2)

    with A = L L^T and s_k the singular values of the whitened block W = L^-1 X^T. Singular values rather
    than the determinant of I + W^T W: that product would square the condition number, and log(1 + s^2)
    keeps all digits of a gain near 0.

    Args:
        cholesky: L, (dim, dim), float64, lower triangular.
        block: X, (tokens, dim), any float dtype; computed in float64.

    Returns:
        The gain in nats, >= 0.

    Cost: dim^2 tokens for W, and dim tokens min(dim, tokens) for its singular values.
    Source: the determinant lemma; Deb et al. (2025), arXiv:2505.14826, section 4.

    Example:
        >>> block_gain(torch.eye(2, dtype=torch.float64), torch.tensor([[3.0, 4.0]]))  # log(1 + 25)
        3.258096538021482
    """
    whitened = torch.linalg.solve_triangular(cholesky, block.to(cholesky).T, upper=False)
    return float(torch.log1p(torch.linalg.svdvals(whitened).square()).sum())


def vector_gains(cholesky: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """The marginal gain of each of some vectors, as `block_gain` of each as a block of its own.

    Args:
        cholesky: L, (dim, dim), float64, lower triangular.
        vectors: (n, dim), any float dtype; computed in float64.

    Returns:
        (n,), float64, nats, >= 0.

    Cost: dim^2 a vector.
    Source: a vector's only singular value is its norm.

    Example:
        >>> vector_gains(torch.eye(2, dtype=torch.float64), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))  # log(1 + 25)
        tensor([3.2581, 0.0000], dtype=torch.float64)
    """
    whitened = torch.linalg.solve_triangular(cholesky, vectors.to(cholesky).T, upper=False)
    return torch.log1p(whitened.square().sum(0))


def updated_cholesky(cholesky: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """A Cholesky factor of A + X^T X, given one of A.

    By the QR factorisation of L^T stacked on X, which is a factor of the sum without forming it: products of
    embeddings with a weak prior are often too ill-conditioned to factor (and cost more). Its diagonal may be
    negative, which no gain depends on.

    Args:
        cholesky: L, (dim, dim), float64, lower triangular, A = L L^T.
        block: X, (tokens, dim), any float dtype.

    Returns:
        (dim, dim), float64, lower triangular, a new tensor on the device of `cholesky`.

    Cost: 2 dim^2 tokens, on the CPU (LAPACK), whatever the device.
    Source: LAPACK dtpqrt; Golub and Van Loan, Matrix Computations, section 6.5 (updating factorisations).

    Example:
        >>> updated_cholesky(torch.eye(1, dtype=torch.float64), torch.tensor([[3.0]])).square()  # 1 + 9
        tensor([[10.0000]], dtype=torch.float64)
    """
    if len(block) == 0:
        return cholesky.clone()
    upper = cholesky.cpu().numpy().T
    rows = np.asfortranarray(block.to("cpu", torch.float64).numpy())
    size = min(_REFLECTORS_AT_ONCE, len(upper))
    factor, _, _, info = dtpqrt(0, size, upper, rows, overwrite_a=False, overwrite_b=False)
    assert info == 0, f"dtpqrt refused its argument {-info}"
    return torch.from_numpy(factor.T).to(cholesky.device)


def information_gains_along(
    blocks: Blocks,
    order: Sequence[int] | np.ndarray,
    regularization: float = 1.0,
    cholesky: torch.Tensor | None = None,
) -> np.ndarray:
    """The marginal gain of each block when blocks are added in a given order.

        gains[k] = log det A_k - log det A_(k-1),  A_k = lambda I + sum over the first k of X_i^T X_i

    Their cumulative sum is the information gain of every prefix; the total does not depend on the order.

    Args:
        blocks: the pool.
        order: (n,), integers; which blocks, in which order.
        regularization: lambda, > 0.
        cholesky: (dim, dim), float64; L with A_0 = lambda L L^T, where A_0 is more than lambda I.

    Returns:
        (n,), float64, nats.

    Cost: about 3 dim^2 per token.
    Source: the chain rule of log det; Deb et al. (2025), arXiv:2505.14826.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1, 2]))
        >>> information_gains_along(pool, [0, 1]).round(6)  # log 2, then log(3 / 2)
        array([0.693147, 0.405465])
    """
    if cholesky is None:
        cholesky = torch.eye(blocks.dim, dtype=torch.float64)
    gains = np.empty(len(order))
    for step, index in enumerate(order):
        block = scaled(blocks[int(index)], regularization).cpu()
        gains[step] = block_gain(cholesky, block)
        cholesky = updated_cholesky(cholesky, block)
    return gains


def scaled(block: torch.Tensor, regularization: float) -> torch.Tensor:
    """The block in float64, divided by sqrt(lambda).

    With blocks so scaled the prior is the identity: log det A_S - log det A_0 = log det(A_S / lambda). So no
    algorithm has to tell a small gain from the large constant dim * log(lambda).
    """
    return block.to(torch.float64) / math.sqrt(regularization)
