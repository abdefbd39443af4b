"""Token blocks as triangles: of a block with more tokens than dimensions, R of X = Q R says all that a gain needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.looks import padded_widths
from fishersft.numerics.threads import one_thread_each, torch_threads

_AT_ONCE = 1 << 20  # values of blocks in one job: 8 MiB in float64


def triangular(blocks: TokenBlocks) -> TokenBlocks:
    """The blocks with every one that has more rows than dims as the triangle R of its QR factorisation.

        R^T R = X^T X,  so log det(A + X^T X), and all else that sees X^T X alone, is that of R

    D-optimal and V-optimal selections, certificates, projections and target moments see no more than that. What needs
    the tokens themselves, such as their mean or weights, has to be computed before.

    Args:
        blocks: on the CPU, of any float dtype.

    Returns:
        Blocks in float64 whose `lengths` are still the tokens; or the same blocks, where triangles in float64 would
        not take less memory than they do.

    Cost: 2 dim^2 a token, on as many threads as torch uses, each some blocks at a time.
    Source: Golub and Van Loan, Matrix Computations, section 5.2.

    Example:
        >>> block = TokenBlocks(torch.tensor([[3.0], [4.0], [0.0], [0.0]]), torch.tensor([0, 4]))
        >>> triangle = triangular(block)
        >>> triangle.values.abs(), triangle.lengths
        (tensor([[5.]], dtype=torch.float64), tensor([4]))
    """
    rows = blocks.offsets.diff()
    kept = rows.clamp(max=blocks.dim)
    if int(kept.sum()) * torch.float64.itemsize >= int(rows.sum()) * blocks.dtype.itemsize:
        return blocks
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])
    values = torch.empty(int(offsets[-1]), blocks.dim, dtype=torch.float64)
    made = TokenBlocks(values, offsets, blocks.lengths)

    def factorise(members: np.ndarray) -> None:
        width = int(padded_widths(rows.numpy()[members]).max())
        padded = torch.zeros(len(members), width, blocks.dim, dtype=torch.float64)
        for place, member in enumerate(members.tolist()):
            padded[place, : rows[member]] = blocks[member]
        triangles = torch.linalg.qr(padded, mode="r").R
        for triangle, member in zip(triangles, members.tolist(), strict=True):
            made[member][:] = triangle

    short = np.flatnonzero((rows <= blocks.dim).numpy())
    for member in short.tolist():
        made[member][:] = blocks[member]
    _on_all_threads(factorise, _jobs(rows.numpy(), blocks.dim))
    return made


def _jobs(rows: np.ndarray, dim: int) -> list[np.ndarray]:
    """The blocks with more rows than dims, those of similar size together, in jobs of about equal size."""
    long = np.flatnonzero(rows > dim)
    widths = padded_widths(rows[long])
    order = np.argsort(widths, kind="stable")
    jobs = []
    for like in np.split(order, np.flatnonzero(np.diff(widths[order])) + 1):
        at_once = max(1, _AT_ONCE // (int(widths[like[0]]) * dim))
        jobs += [long[like[start : start + at_once]] for start in range(0, len(like), at_once)]
    return jobs


def _on_all_threads(work: Callable[[np.ndarray], None], jobs: list[np.ndarray]) -> None:
    with torch_threads(1) as threads, one_thread_each(threads) as executor:
        list(executor.map(work, jobs))
