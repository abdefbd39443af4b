"""Random token blocks for the tests of the numerics."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def block_lists(
    draw: st.DrawFn,
    max_blocks: int = 12,
    max_dim: int = 9,
    scales: tuple[float, ...] = (0.01, 1.0, 40.0),
    permuted: bool = True,
) -> list[np.ndarray]:
    """Blocks shorter and longer than dim; copies, permuted copies, zero and empty blocks among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.integers(1, max_dim))
    longest = draw(st.sampled_from([1, 3, 2 * max_dim]))
    rank = draw(st.integers(1, dim))
    scale = draw(st.sampled_from(scales))
    directions = rng.normal(size=(rank, dim)) * scale
    blocks: list[np.ndarray] = []
    for _ in range(draw(st.integers(1, max_blocks))):
        kind = draw(st.sampled_from(["new", "new", "new", "copy", "zero", "empty"] + ["permuted"] * permuted))
        if kind == "copy" and blocks:
            blocks.append(blocks[rng.integers(len(blocks))].copy())
        elif kind == "permuted" and blocks:
            blocks.append(rng.permutation(blocks[rng.integers(len(blocks))]))
        elif kind == "empty":
            blocks.append(np.zeros((0, dim)))
        else:
            tokens = rng.integers(1, longest + 1)
            values = rng.normal(size=(tokens, rank)) @ directions
            blocks.append(values * 0 if kind == "zero" else values)
    if not any(len(block) for block in blocks):
        blocks.append(rng.normal(size=(1, dim)))
    return blocks
