from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.numerics import TokenBlocks, looks
from fishersft.numerics.information import block_gain, scaled
from fishersft.numerics.looks import GainLooks
from fishersft.numerics.state import InformationState

F32, F64 = torch.float32, torch.float64


class Looks(GainLooks):
    """With a state of its own."""

    def __init__(self, pool: TokenBlocks, lam: float = 1.0) -> None:
        self.state = InformationState(torch.eye(pool.dim, dtype=F64), pool.device)
        super().__init__(pool, self.state, lam, pool.device)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mixed_pool(rng: np.random.Generator, dim: int, number: int, scales: list[float]) -> TokenBlocks:
    """Blocks of one row and of more than dim, of low rank and alike among them, each of one of the scales."""
    directions = rng.normal(size=(max(1, dim // 2), dim))
    blocks = []
    for _ in range(number):
        tokens = int(rng.choice([1, 2, 5, dim + 3, 2 * dim]))
        rows = rng.normal(size=(tokens, len(directions))) @ directions if rng.random() < 0.5 else 0.0
        blocks.append((rows + rng.normal(size=(tokens, dim)) * rng.choice([1e-3, 1.0])) * rng.choice(scales))
    return TokenBlocks.from_sequence([*blocks, np.zeros((2, dim)), np.zeros((0, dim)), blocks[0]])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.sampled_from([[1e-3], [1.0], [1e3], [1e-3, 1.0, 1e3]]),
    st.sampled_from([1e-2, 1.0, 1e4]),
)
def test_the_gain_in_float64_is_within_every_interval(seed: int, dim: int, scales: list[float], lam: float) -> None:
    rng = np.random.default_rng(seed)
    pool = mixed_pool(rng, dim, 24, scales)
    look = Looks(pool, lam)
    try:
        for _ in range(25):
            members = np.sort(rng.choice(len(pool), rng.integers(1, len(pool) + 1), replace=False))
            dtype = F64 if rng.random() < 0.2 else F32
            lower, upper = look(members, dtype)
            gains = np.array([block_gain(look.state.cholesky, scaled(pool[int(i)], lam)) for i in members])
            assert (lower <= gains * (1 + 1e-12) + 1e-15).all()
            assert (gains * (1 - 1e-12) - 1e-15 <= upper).all()
            if rng.random() < 0.7:
                look.state.add(scaled(pool[int(rng.integers(len(pool)))], lam))
    finally:
        look.close()


def test_the_intervals_are_narrow() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, 6), 24)) for _ in range(40)])
    look = Looks(pool)
    for step in range(30):
        lower, upper = look(np.arange(1, 40), F32)
        assert (lower > 0).all()
        assert (upper / lower < 1 + 1e-3).all()
        look.state.add(pool[step].double())
    look.close()


@pytest.mark.parametrize("dim", [1, 5, 95, 96, 97, 200])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_whitening_a_stretch_at_a_time_solves_the_triangle(dim: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(dim)
    state = InformationState(torch.eye(dim, dtype=F64), torch.device("cpu"))
    for _ in range(3):
        state.add(torch.from_numpy(rng.normal(size=(7, dim)) * 10))
    rows = torch.from_numpy(rng.normal(size=(11, dim)))
    before = rows.clone()
    expected = torch.linalg.solve_triangular(state.cholesky, rows.T, upper=False).T
    tolerance = 1e-4 if dtype == F32 else 1e-12
    torch.testing.assert_close(state.whitened(rows.to(dtype)).double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(rows, before)


def test_threads_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_JOB_ELEMENTS", 200)
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, 20), 9)) for _ in range(80)])
    seen = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        look = Looks(pool)
        intervals = []
        for step in range(6):
            intervals.append(np.stack(look(np.arange(step, 70), F32)))
            look.state.add(pool[step].double())
        look.close()
        seen.append(np.concatenate(intervals, axis=1))
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5)
