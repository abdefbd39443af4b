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
    """With a state of its own, and a count of the slots that were ever made."""

    def __init__(self, pool: TokenBlocks, lam: float = 1.0) -> None:
        self.state = InformationState(torch.eye(pool.dim, dtype=F64), pool.device, pool.values[::3])
        super().__init__(pool, self.state, lam, pool.device)

    @property
    def slots(self) -> int:
        return sum(len(roots) for roots in self._roots._roots.values())


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


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.sampled_from([[1e-3], [1.0], [1e3], [1e-3, 1.0, 1e3]]),
    st.sampled_from([1e-2, 1.0, 1e4]),
)
def test_a_bound_that_is_brought_down_is_never_under_the_gain(
    seed: int, dim: int, scales: list[float], lam: float
) -> None:
    rng = np.random.default_rng(seed)
    pool = mixed_pool(rng, dim, 24, scales)
    look = Looks(pool, lam)
    bounds = np.full(len(pool), np.inf)
    try:
        for _ in range(25):
            members = np.sort(rng.choice(len(pool) - 2, rng.integers(1, len(pool) - 2), replace=False))
            bounds[members] = look(members, F32)[1]
            for _ in range(rng.integers(1, 4)):
                look.state.add(scaled(pool[int(rng.integers(len(pool)))], lam))
            behind = np.flatnonzero(look.is_behind(np.arange(len(pool))))
            before = bounds[behind]
            bounds[behind] = look.tightened(behind, before)
            gains = np.array([block_gain(look.state.cholesky, scaled(pool[int(i)], lam)) for i in behind])
            assert (bounds[behind] <= before).all()
            assert (gains * (1 - 1e-12) - 1e-15 <= bounds[behind]).all()
            assert not look.is_behind(behind).any()
    finally:
        look.close()


def test_bounds_that_are_brought_down_rule_most_blocks_out() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(40, 96)) @ np.diag(0.95 ** np.arange(96)) for _ in range(60)])
    look = Looks(pool)
    look.state.add(pool[0].double())
    others = np.arange(1, 60)
    before = look(others, F32)[1]
    look.state.add(pool[1].double())
    after = look.tightened(others, before)
    gains = np.array([block_gain(look.state.cholesky, pool[int(i)].double()) for i in others])
    look.close()
    assert np.median((before - after) / (before - gains)) > 0.5  # of what exact gains fell by


def test_a_bound_is_brought_down_within_the_window_and_only_where_a_look_remembered() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(2, 8)) for _ in range(10)] + [rng.normal(size=(9, 8))] * 2)
    look = Looks(pool)
    look(np.arange(0, 4), F32)
    look(np.array([4, 5]), F64)  # does not remember
    look(np.array([10, 11]), F32)  # longer than dim: is not remembered
    everyone = np.arange(12)
    assert not look.is_behind(everyone).any()
    look.state.add(pool[5].double())
    assert np.flatnonzero(look.is_behind(everyone)).tolist() == [0, 1, 2, 3]
    look.tightened(np.array([0]), np.array([np.inf]))
    assert np.flatnonzero(look.is_behind(everyone)).tolist() == [1, 2, 3]
    while look.state.columns < look.state.window:
        look.state.add(pool[6].double())
    assert np.flatnonzero(look.is_behind(everyone)).tolist() == [0, 1, 2, 3]
    look.state.add(pool[7].double())
    assert np.flatnonzero(look.is_behind(everyone)).tolist() == [0]
    look.close()


def test_a_block_of_more_tokens_than_dim_takes_away_as_its_triangle_does() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(500, 8)), rng.normal(size=(3, 8)), rng.normal(size=(2, 8))])
    look = Looks(pool)
    before = look(np.array([1]), F32)[1]
    look.state.add(pool[0].double())
    assert look.state.columns == 8
    after = look.tightened(np.array([1]), before)
    look.close()
    assert block_gain(look.state.cholesky, pool[1].double()) <= after[0] < before[0]


class BoundedBlocks(TokenBlocks):
    """As those on disk, for the memory that looks may keep: 100 blocks of one token."""

    @property
    def memory_for_looks(self) -> float:
        return 400.0


def test_what_is_remembered_of_blocks_stays_within_its_memory_and_is_of_those_used_last() -> None:
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(3000, 6)))
    look = Looks(BoundedBlocks(vectors, torch.arange(3001)))
    seen = set[int]()
    for _ in range(40):
        members = np.sort(rng.choice(3000, 60, replace=False))
        seen.update(members.tolist())
        lower, upper = look(members, F32)
        assert (lower < upper).all()
        assert look.slots <= 100
        look.state.add(vectors[members[:1]])
        assert look.is_behind(members).all()  # they were used last
    look.close()
    assert len(seen) > 1500
    held = look._roots.slots >= 0
    assert held.sum() == len(np.unique(look._roots.slots[held])) == 100  # no two blocks share one


def test_blocks_for_which_there_is_no_memory_are_looked_at_without_being_remembered() -> None:
    rng = np.random.default_rng(0)
    pool = BoundedBlocks(torch.from_numpy(rng.normal(size=(60, 6))), torch.arange(0, 61, 3))
    look = Looks(pool)
    lower, upper = look(np.arange(19), F32)
    gains = np.array([block_gain(look.state.cholesky, pool[i]) for i in range(19)])
    look.close()
    assert ((lower <= gains) & (gains <= upper)).all()
    assert (look._roots.slots >= 0).sum() == 400 // (4 * 9)


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
