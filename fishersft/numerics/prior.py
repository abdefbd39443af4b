"""What is known before anything is selected: lambda, and the information of earlier selections."""

from __future__ import annotations

import math
import numbers
from typing import Literal, get_args

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks
from fishersft.numerics.information import scaled, updated_cholesky

RegularizationUnit = Literal["absolute", "mean token energy"]
_ASYMMETRY = 1e-6  # relative; what rounding may leave in a matrix that was computed in float32


def absolute_regularization(blocks: Blocks, regularization: float, unit: RegularizationUnit) -> float:
    """lambda in the units of the squared embeddings.

    Args:
        blocks: the pool.
        regularization: > 0, in
        unit: "absolute", or "mean token energy": as a share of the mean of |x|^2 over the tokens of the pool.

    Raises:
        InputError: not a finite number above 0, or a pool of zeros as a measure.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[3.0, 4.0], [0.0, 5.0]]), torch.tensor([0, 2]))
        >>> absolute_regularization(pool, 0.1, "mean token energy")
        2.5
    """
    if unit not in get_args(RegularizationUnit):
        raise InputError(f"regularization_unit must be one of {', '.join(get_args(RegularizationUnit))}, not {unit!r}")
    is_number = isinstance(regularization, numbers.Real) and not isinstance(regularization, bool)
    if not is_number or not math.isfinite(regularization) or regularization <= 0:
        raise InputError(f"regularization must be a finite number above 0, not {regularization!r}")
    if unit == "absolute":
        return float(regularization)
    energy = sum(float(rows.double().square().sum()) for _, rows in blocks.chunks())
    mean = energy / int(blocks.lengths.sum())
    if not mean > 0:
        raise InputError("all embeddings are zero, so lambda cannot be a share of their energy; give it as absolute")
    return float(regularization) * mean


def start_factor(
    dim: int,
    regularization: float,
    already_selected: Blocks | None,
    initial_information: np.ndarray | torch.Tensor | None,
) -> torch.Tensor | None:
    """L with A_0 = lambda L L^T, A_0 = lambda I + J + sum of X^T X over what was selected; None if that is lambda I.

    Args:
        dim: of the pool.
        regularization: lambda > 0.
        already_selected: token blocks of an earlier selection.
        initial_information: J, (dim, dim), symmetric, positive semidefinite.

    Returns:
        (dim, dim), float64, lower triangular, on the CPU.

    Raises:
        InputError: another dim than the pool's, NaN or infinity, or J not symmetric or not positive semidefinite.
    """
    if already_selected is None and initial_information is None:
        return None
    cholesky = torch.eye(dim, dtype=torch.float64)
    if initial_information is not None:
        cholesky = updated_cholesky(cholesky, _root(initial_information, dim) / math.sqrt(regularization))
    if already_selected is not None:
        if already_selected.dim != dim:
            raise InputError(
                f"what was already selected has dim {already_selected.dim}, the pool has {dim}; "
                "were both embedded with the same model?"
            )
        already_selected.check_finite()
        for i in range(len(already_selected)):
            cholesky = updated_cholesky(cholesky, scaled(already_selected[i], regularization).cpu())
    return cholesky


def _root(information: np.ndarray | torch.Tensor, dim: int) -> torch.Tensor:
    """R with R^T R = J."""
    matrix = torch.as_tensor(information).to("cpu", torch.float64)
    if tuple(matrix.shape) != (dim, dim):
        raise InputError(f"initial_information must be of shape ({dim}, {dim}), not {tuple(matrix.shape)}")
    size = float(matrix.abs().max())
    if not math.isfinite(size) or float((matrix - matrix.T).abs().max()) > _ASYMMETRY * size:
        raise InputError("initial_information must be a finite, symmetric matrix; give the sum of X^T X")
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    if float(values[0]) < -_ASYMMETRY * size:
        raise InputError(
            f"initial_information must be positive semidefinite; its least eigenvalue is {float(values[0]):.3g}. "
            "Give the sum of X^T X"
        )
    return values.clamp(min=0).sqrt()[:, None] * vectors.T
