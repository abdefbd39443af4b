"""Greedy for sentences of one vector, where keeping every gain up to date costs less than choosing what to look at."""

from __future__ import annotations

import math

import numpy as np
import torch

from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.certificates import PrefixBound
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import block_gain, scaled
from fishersft.numerics.state import InformationState, one_blas_thread
from fishersft.numerics.twins import Twins, fingerprints

_BOUND_UPDATES = 50  # times in a run that the certificate is brought up to date
_CHUNK_ROWS = 1 << 16
_ALLOWED = 4 * torch.finfo(torch.float32).eps  # 4 times the rounding that was measured, relative to norms
_TIE_WINDOW = 1e-8  # relative; wider than what `Picks.beats` calls a tie
_TOO_ROUGH = 1e-3  # of the best leverage: rounding that has added up to this is cleared by starting anew


def eager_applies(blocks: TokenBlocks) -> bool:
    """Whether no block has more than one token, and float32 can hold the squares of all of them."""
    if int(blocks.lengths.max()) > 1:
        return False
    limit = torch.finfo(torch.float32).max ** 0.5 / blocks.dim
    return all(float(rows.abs().max()) < limit for _, rows in blocks.chunks())


def eager_greedy(
    blocks: TokenBlocks,
    picks: Picks,
    *,
    regularization: float = 1.0,
    cholesky: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Greedy by information gain over single vectors x_i, with the picks of `reference.naive_greedy`.

        gain = log(1 + l_i),  l_i = x_i^T A^-1 x_i;  after a pick with the column p, l_i falls by (x_i^T p)^2

    One product of all vectors with p a pick, in float32 with a bound on its rounding; what may be the best within
    that is computed in float64, one by one, so that the lower index wins as in Algorithm 1.

    Args: as of `lazy.lazy_greedy`; no block has more than one token.
    Cost: 2 dim a vector and pick, bound by reading the vectors once a pick.
    Source: rank-one updates as in Chen, Zhang and Zhou (2018), "Fast greedy MAP inference for determinantal point
        process"; the intervals are this project's.

    Example:
        >>> pool = TokenBlocks(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.arange(4))
        >>> picks = Picks(pool.lengths.numpy(), pool.dim, budget=2)
        >>> eager_greedy(pool, picks)
        >>> picks.indices
        [1, 2]
    """
    with one_blas_thread():
        on = torch.device(device)
        state = InformationState(torch.eye(blocks.dim, dtype=torch.float64) if cholesky is None else cholesky, on)
        for index in picks.indices:
            state.add(scaled(blocks[index], regularization).cpu())
        leverages = _Leverages(blocks, state, regularization, on)
        twins = Twins(blocks, fingerprints(blocks))
        bound = PrefixBound(picks.free_budget, picks.budget_unit, blocks.lengths.numpy())
        bound.value = math.inf if picks.upper_bound is None else picks.upper_bound
        every = max(1, picks.free_budget // _BOUND_UPDATES)
        while picks.open.any():
            if len(picks.indices) % every == 0:
                _update(bound, picks, leverages)
            contenders = leverages.highest(twins.candidates(picks.open))
            best, best_gain = -1, -np.inf
            for i in contenders.tolist():
                gain = block_gain(state.cholesky, scaled(blocks[i], regularization).cpu())
                if picks.beats(gain, best_gain):
                    best, best_gain = i, gain
            picks.evaluations += len(blocks) + len(contenders)
            if picks.take(best, best_gain):
                leverages.add(scaled(blocks[best], regularization).cpu())
        _update(bound, picks, leverages)


def _update(bound: PrefixBound, picks: Picks, leverages: _Leverages) -> None:
    if picks.required_left:
        return
    bounds = leverages.gain_bounds()
    bounds[picks.impossible] = 0.0
    bounds[picks.indices] = 0.0
    bound.update(picks.gain, bounds)
    picks.upper_bound = bound.value


class _Leverages:
    """l_i = x_i^T A^-1 x_i of every block, with a bound on its rounding; 0 for blocks without a token.

    All in float32. With k picks since l_i was computed anew (as l0_i) it errs by at most some eps times
    |x_i| sqrt(l0_i) (3 + 2 sqrt(k) + k): the products by eps |x_i| each, and as their squares add up to l0_i at most,
    they themselves to sqrt(k l0_i); the k subtractions by eps l0_i each, and l0_i is at most |x_i|^2. A solve with L
    may put a larger norm in the place of |x_i|; see `looks`.
    """

    def __init__(
        self, blocks: TokenBlocks, state: InformationState, regularization: float, device: torch.device
    ) -> None:
        self._has_token = None if bool((blocks.lengths == 1).all()) else blocks.lengths.to(device) == 1
        # dim x tokens: in this order the product with one column runs at the speed of memory, with all threads
        self._vectors = blocks.values.to(device, torch.float32).T.contiguous()
        self._state = state
        self._scale = 1 / math.sqrt(regularization)
        self._norms = self._of_all(self._norms_of_tokens())
        self._start_anew()

    def highest(self, candidates: np.ndarray) -> np.ndarray:
        """The candidates that may have the highest leverage, ascending."""
        allowed = torch.from_numpy(candidates).to(self._leverages.device)
        leverages = self._leverages.where(allowed, -torch.inf)
        best = float(leverages.max())
        if self._rounding() * self._largest_unit > _TOO_ROUGH * best and self._picks_since:
            self._start_anew()
            return self.highest(candidates)
        margin = self._rounding() * self._largest_unit + _TIE_WINDOW * best
        among = (leverages >= best - 2 * margin).nonzero().flatten()
        errors = self._rounding() * self._units[among]
        lowest = float((leverages[among] - errors).max())
        return among[leverages[among] + errors >= lowest * (1 - _TIE_WINDOW)].cpu().numpy()

    def add(self, block: torch.Tensor) -> None:
        """Add a chosen block, (1, dim), float64, divided by sqrt(lambda)."""
        first = self._state.columns
        self._state.add(block)
        column = self._state.columns_since(first)[:, 0].contiguous() * self._scale
        product = self._of_all(column @ self._vectors)
        self._leverages.addcmul_(product, product, value=-1)
        self._picks_since += 1

    def gain_bounds(self) -> np.ndarray:
        """(n,), nats; at least the marginal gain of every block."""
        bounds = (self._leverages + self._rounding() * self._units).double().clamp(min=0)
        return bounds.log1p().cpu().numpy() * (1 + _TIE_WINDOW)

    def _rounding(self) -> float:
        return _ALLOWED * (3 + 2 * math.sqrt(self._picks_since) + self._picks_since)

    def _start_anew(self) -> None:
        factor = self._state.factor(torch.float32)
        found, norms = [], []
        weights = self._state.column_norms(torch.float32).square()
        for part in self._vectors.split(_CHUNK_ROWS, dim=1):
            whitened = part if self._state.is_identity else torch.linalg.solve_triangular(factor, part, upper=False)
            squares = (whitened * self._scale).square()
            found.append(squares.sum(0))
            norms.append((weights @ squares).sqrt())
        self._leverages = self._of_all(torch.cat(found))
        self._units = torch.maximum(self._norms, self._of_all(torch.cat(norms))) * self._leverages.sqrt()
        self._largest_unit = float(self._units.max())
        self._picks_since = 0

    def _norms_of_tokens(self) -> torch.Tensor:
        parts = self._vectors.split(_CHUNK_ROWS, dim=1)
        return torch.cat([part.square().sum(0).sqrt() for part in parts]) * self._scale

    def _of_all(self, tokens: torch.Tensor) -> torch.Tensor:
        """A value a block from a value a token."""
        if self._has_token is None:
            return tokens
        values = tokens.new_zeros(len(self._has_token))
        values[self._has_token] = tokens
        return values
