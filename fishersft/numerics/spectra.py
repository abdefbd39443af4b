"""The spectrum of each token block: its gain before anything is chosen, whatever lambda will be."""

from __future__ import annotations

import numpy as np
import torch

from fishersft.numerics.blocks import TokenBlocks

_SAFETY = 4.0  # times the usual bound on the rounding of eigenvalues
_FLOAT32_UP = 1 + 1e-6  # a float64 times this is not less after it is rounded to float32


def squared_singular_values(blocks: TokenBlocks) -> torch.Tensor:
    """An entry a token: the eigenvalues of X X^T of each block in turn, descending, none less than its true value.

    They say what `first_gains` are for every lambda, in 1 / dim of the blocks' bytes.

    Args:
        blocks: (tokens, dim) in all, of any float dtype; computed in float64 on the CPU.

    Returns:
        float32 (tokens,); 0 where a block has more tokens than dim.

    Cost: tokens min(tokens, dim) dim for the Gram matrix of a block and the cube of min(tokens, dim) for its
        eigenvalues.
    Source: Golub and Van Loan, Matrix Computations, section 8.1 (how far rounding moves eigenvalues).

    Example:
        >>> squared_singular_values(TokenBlocks(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 2])))
        tensor([9.0000, 4.0000])
    """
    spectra = torch.zeros(int(blocks.offsets[-1]))
    for length in blocks.lengths.unique().tolist():
        begins = blocks.offsets[:-1][blocks.lengths == length]
        size = min(length, blocks.dim)
        for some in begins.split(max(1, (1 << 22) // max(1, length * blocks.dim))):
            rows = blocks.values[some[:, None] + torch.arange(length)].to("cpu", torch.float64)
            gram = rows @ rows.mT if length == size else rows.mT @ rows
            if not size:
                continue
            rounding = _SAFETY * (size + blocks.dim) * torch.finfo(torch.float64).eps
            trace = gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
            values = torch.linalg.eigvalsh(gram).clamp_min(0) + rounding * trace
            spectra[some[:, None] + torch.arange(size)] = (values.flip(1) * _FLOAT32_UP).float()
    return spectra


def first_gains(spectra: torch.Tensor, lengths: torch.Tensor, regularization: float) -> np.ndarray:
    """log det(I + X X^T / lambda) of every block, and not less.

    Args:
        spectra: (tokens,), as `squared_singular_values` gives them.
        lengths: (n,), tokens of each block.
        regularization: lambda > 0.

    Returns:
        (n,), float64, nats.
    """
    each = torch.log1p(spectra.double() / regularization)
    sums = torch.zeros(len(lengths), dtype=torch.float64)
    sums.index_add_(0, torch.repeat_interleave(torch.arange(len(lengths)), lengths), each)
    return (sums * (1 + 1e-12)).numpy()
