"""What smaller embeddings cost a selection: python -m benchmarks.embedding.cuts (some five minutes).

3,000 of Shakespeare's speeches, 500 picks. Each cut's picks are judged by the embeddings as they were: how many are the
picks without it, what share of their information gain they reach, and what is proven about the loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.selection.measure import in_fresh_process
from benchmarks.selection.pools import embed_speeches, stored_blocks_of
from fishersft.numerics import TokenBlocks, information_gains_along, select
from fishersft.numerics.projection import principal_basis, projected, projection_loss

SENTENCES, PICKS, STORE = 3000, 500, "build/bench-store"


@dataclass(frozen=True)
class Cut:
    """A way to smaller embeddings: `blocks` of them, bytes a token, and the bound on what a set of picks can lose."""

    name: str
    blocks: TokenBlocks
    bytes_a_token: float
    bound: Callable[[np.ndarray], float] | None


def main() -> None:
    """Print the table as Markdown."""
    os.environ["OMP_WAIT_POLICY"] = "passive"
    pool = _embedded("float32")
    whole = select(pool, PICKS)
    print(
        f"{SENTENCES:,} speeches, {PICKS} picks, {whole.information_gain:,.1f} nats by float32 (2,304 bytes a token).\n"
    )
    print("| cut | bytes a token | picks in common | share of the gain | proven loss of its picks, nats |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for cut in _cuts(pool):
        picks = select(cut.blocks, PICKS).indices
        gain = float(information_gains_along(pool, picks).sum())
        common = len(np.intersect1d(picks, whole.indices))
        bound = "–" if cut.bound is None else f"{cut.bound(picks):,.1f}"
        share = gain / whole.information_gain
        print(f"| {cut.name} | {cut.bytes_a_token:,.0f} | {common} | {share:.4%} | {bound} |", flush=True)


def _cuts(pool: TokenBlocks) -> list[Cut]:
    def rounded(dtype: torch.dtype) -> TokenBlocks:
        return TokenBlocks(pool.values.to(dtype), pool.offsets)

    def rounding(blocks: TokenBlocks) -> Callable[[np.ndarray], float]:
        error = (blocks.values.double() - pool.values.double()).square().sum(1).cumsum(0)
        energy = torch.cat([torch.zeros(1, dtype=torch.float64), error])[pool.offsets].diff().numpy()
        return lambda picks: float(np.sqrt(pool.dim * energy[picks].sum()))  # log(1 + s^2) grows by less than s

    def projecting(basis: torch.Tensor) -> Callable[[np.ndarray], float]:
        return lambda picks: projection_loss(pool, picks, basis).bound_nats

    cuts = [Cut("the model in bfloat16", _embedded("bfloat16"), 2 * pool.dim, None)]
    for dtype in (torch.bfloat16, torch.float16):
        blocks = rounded(dtype)
        cuts.append(Cut(f"stored as {str(dtype).removeprefix('torch.')}", blocks, 2 * pool.dim, rounding(blocks)))
    draw = torch.randn(pool.dim, pool.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    random = torch.linalg.qr(draw).Q
    for p in (64, 128, 256):
        for name, basis in (("PCA", principal_basis(pool, p)), ("random projection", random[:, :p].contiguous())):
            blocks = projected(pool, basis)
            assert isinstance(blocks, TokenBlocks)
            cuts.append(Cut(f"{name} to {p}", blocks, 4 * p, projecting(basis)))
    for cosine in (0.99, 0.95, 0.9):
        blocks = merged(pool, cosine)
        share = len(blocks.values) / len(pool.values)
        cuts.append(Cut(f"tokens of a cosine over {cosine} merged", blocks, 4 * pool.dim * share, None))
    return cuts


def merged(pool: TokenBlocks, cosine: float) -> TokenBlocks:
    """In each sentence, every token goes to the first that it is parallel to, which takes up its energy."""
    blocks = []
    for block in pool:
        norms = block.norm(dim=1)
        alike = (block @ block.T) / (norms[:, None] * norms).clamp(min=1e-30) > cosine
        leader = alike.to(torch.uint8).argmax(dim=1)  # the first one; a token is parallel to itself
        leader = leader[leader]  # whose leader has one itself goes along
        energy = torch.zeros(len(block)).index_add_(0, leader, norms.square())
        kept = torch.unique(leader)
        blocks.append(block[kept] * (energy[kept].sqrt() / norms[kept].clamp(min=1e-30))[:, None])
    lengths = torch.tensor([0] + [len(block) for block in blocks])
    return TokenBlocks(torch.cat(blocks), lengths.cumsum(0))


def _embedded(dtype: str) -> TokenBlocks:
    files: list[Path] = in_fresh_process(embed_speeches, STORE, SENTENCES, dtype)
    return stored_blocks_of(files, SENTENCES)


if __name__ == "__main__":
    main()
