"""Batched block lazy greedy: Algorithm 1's picks from a small part of its evaluations."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.certificates import PrefixBound
from fishersft.numerics.greedy import BudgetUnit, Picks, Progress, Rule
from fishersft.numerics.information import block_gain, scaled, updated_cholesky

_BATCH = 64  # stale blocks looked at together
_BATCH_ELEMENTS = 1 << 20  # padded tokens times dim in one tensor: 8 MiB in float64
_TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie


def lazy_greedy(
    blocks: TokenBlocks,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    rule: Rule = "gain",
    regularization: float = 1.0,
    device: torch.device | str = "cpu",
    on_progress: Progress | None = None,
) -> Picks:
    """Greedy by information gain, with the picks of `reference.naive_greedy`.

    A gain computed for a smaller selection bounds today's from above (submodularity). So per step only the
    blocks whose bound reaches the best gain seen are looked at again, the highest bounds first, a batch at a
    time: in float32, as intervals that allow for rounding; then those still in question in float64; then
    those that may tie one by one, by the same code for each, so that the lower index wins as in Algorithm 1.

    Args and result: as of `selection.select`; all values are moved to `device`, in their own dtype.
    Cost: dim^2 tokens per evaluation, a few percent of Algorithm 1's evaluations on real embeddings.
    Source: Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions"; the
    batching is this project's.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> lazy_greedy(pool, 2).indices
        [1, 2]
    """
    picks = Picks(blocks.lengths.numpy(), blocks.dim, budget, budget_unit, rule, on_progress)
    blocks = TokenBlocks(blocks.values.to(device), blocks.offsets)
    cholesky = torch.eye(blocks.dim, dtype=torch.float64, device=device)
    lower, upper = np.zeros(len(blocks)), np.full(len(blocks), np.inf)
    original, next_twin, waiting = _identical_blocks(blocks)
    bound = PrefixBound(budget, budget_unit, blocks.lengths.numpy())

    while picks.open.any():
        candidates = picks.open & ~waiting
        threshold = -np.inf
        for precision in (torch.float32, torch.float64):
            stale, factor = candidates.copy(), cholesky.to(precision)
            while (batch := _highest(upper / picks.weights, stale, threshold)).size:
                lower[batch], upper[batch] = _gain_intervals(blocks, batch, factor, regularization)
                picks.evaluations += len(batch)
                stale[batch] = False
                threshold = max(threshold, (lower / picks.weights)[batch].max())

        bound.update(picks.information_gain, _bounds_of_all(upper, original, picks))
        best, best_gain, best_score = -1, 0.0, -np.inf
        for i in np.flatnonzero(candidates & (upper / picks.weights >= threshold)):
            gain = block_gain(cholesky, scaled(blocks[int(i)], regularization))
            picks.evaluations += 1
            if picks.beats(gain / picks.weights[i], best_score):
                best, best_gain, best_score = int(i), gain, gain / picks.weights[i]
        cholesky = updated_cholesky(cholesky, scaled(blocks[best], regularization))
        picks.take(best, best_gain)
        if (twin := next_twin[best]) >= 0:
            waiting[twin], upper[twin] = False, upper[best]
    bound.update(picks.information_gain, _bounds_of_all(upper, original, picks))
    picks.upper_bound = bound.value
    return picks


def _bounds_of_all(upper: np.ndarray, original: np.ndarray, picks: Picks) -> np.ndarray:
    """What every block may still add, for the certificate: a copy at most what any of its like was known to add."""
    of_original = np.full(len(upper), np.inf)
    np.minimum.at(of_original, original, upper)
    bounds = of_original[original]
    bounds[picks.impossible] = 0.0
    bounds[picks.indices] = 0.0
    return bounds


def _highest(upper: np.ndarray, stale: np.ndarray, threshold: float) -> np.ndarray:
    """The stale blocks with the highest bounds from the threshold up: a batch, or all that no bound is known of."""
    among = np.flatnonzero(stale & (upper >= threshold))
    unknown = among[np.isinf(upper[among])]
    if unknown.size or among.size <= _BATCH:
        return unknown if unknown.size else among
    return among[np.argpartition(-upper[among], _BATCH)[:_BATCH]]


def _gain_intervals(
    blocks: TokenBlocks, indices: np.ndarray, cholesky: torch.Tensor, regularization: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the marginal gains of some blocks, computed in the precision of `cholesky`.

    log det(I + G) by Cholesky, with G = W^T W or W W^T, the smaller (side by side), of the whitened block W.
    Rounding errs by some eps * side * (1 + tr G) in G and its factor, and by eps * sqrt(side) * |X| in W, as
    no singular value of L is under 1. Measured errors are well within the 4 times that which is allowed for;
    where rounding leaves no factor at all, the bounds are 0 and infinity.
    """
    lower, upper = np.empty(len(indices)), np.empty(len(indices))
    all_lengths = np.diff(blocks.offsets.numpy())[indices]
    eps = 4 * torch.finfo(cholesky.dtype).eps
    for part in _padded_batches(all_lengths, blocks.dim):
        lengths = torch.from_numpy(all_lengths[part])
        rows = torch.cat([blocks[int(i)] for i in indices[part]]).to(cholesky) / math.sqrt(regularization)
        energy = torch.segment_reduce(rows.square().sum(1), "sum", lengths=lengths.to(rows.device)).double()
        whitened = torch.linalg.solve_triangular(cholesky, rows.T, upper=False).T
        padded = pad_sequence(whitened.split(lengths.tolist()), batch_first=True)
        gram = padded @ padded.mT if padded.shape[1] <= padded.shape[2] else padded.mT @ padded
        side = gram.shape[-1]
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).double()
        factor, failed = torch.linalg.cholesky_ex(gram + torch.eye(side).to(gram))
        gain = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).double()
        error = _TIE_WINDOW * gain + eps * (side * (1 + trace) + (side * energy).sqrt())
        known = (failed == 0) & gain.isfinite() & trace.isfinite()
        lower[part] = torch.where(known, gain - error, 0.0).cpu().numpy()
        upper[part] = torch.where(known, gain + error, np.inf).cpu().numpy()
    return lower, upper


def _padded_batches(lengths: np.ndarray, dim: int) -> Iterator[np.ndarray]:
    """Positions of `lengths`, shortest first, in batches that stay within the memory bound when padded."""
    order = np.argsort(lengths, kind="stable")
    most_rows = max(1, _BATCH_ELEMENTS // dim)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > most_rows:
            yield order[start:end]
            start = end


def _identical_blocks(blocks: TokenBlocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each block the first and the next one with the same bytes (or -1), and which blocks are not the first.

    Of identical blocks the lower index is chosen first, so the later ones need no look until then.
    """
    original, next_twin = np.arange(len(blocks)), np.full(len(blocks), -1)
    last_seen: dict[bytes, int] = {}
    for i in range(len(blocks)):
        block = blocks[i].cpu().contiguous()
        digest = hashlib.blake2b(block.view(torch.uint8).numpy().data, digest_size=16).digest()
        if digest in last_seen:
            next_twin[last_seen[digest]] = i
            original[i] = original[last_seen[digest]]
        last_seen[digest] = i
    return original, next_twin, original != np.arange(len(blocks))
