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


class Counted(GainLooks):
    """Tells how many blocks were caught up and how many were looked at anew."""

    def __init__(self, pool: TokenBlocks, lam: float = 1.0, cholesky: torch.Tensor | None = None) -> None:
        self.state = InformationState(torch.eye(pool.dim, dtype=F64) if cholesky is None else cholesky, pool.device)
        super().__init__(pool, self.state, lam, pool.device)
        self.caught_up = self.anew = 0

    def _catch_up(self, members: np.ndarray, *rest: object) -> None:
        self.caught_up += len(members)
        super()._catch_up(members, *rest)  # type: ignore[arg-type]

    def _look_anew(self, members: np.ndarray, *rest: object) -> None:
        self.anew += len(members)
        super()._look_anew(members, *rest)  # type: ignore[arg-type]

    @property
    def slots(self) -> int:
        return sum(len(grams) for grams in self._grams._grams.values())


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
    look = Counted(pool, lam)
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


def test_the_intervals_are_narrow_after_catching_up_too() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, 6), 24)) for _ in range(40)])
    look = Counted(pool)
    for step in range(30):
        lower, upper = look(np.arange(1, 40), F32)
        assert (lower > 0).all()
        assert (upper / lower < 1 + 1e-2).all()
        look.state.add(pool[step].double())
    look.close()
    assert look.caught_up > 500
    assert look.anew > 39  # the first time, and where the errors have added up


def test_looks_catch_up_within_the_window_and_start_anew_beyond_it() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(2, 8)) for _ in range(10)] + [rng.normal(size=(9, 8))] * 2)
    look = Counted(pool)
    some = np.arange(0, 5)
    look(some, F32)
    assert (look.caught_up, look.anew) == (0, 5)
    look.state.add(pool[5].double())
    look(some, F32)
    assert (look.caught_up, look.anew) == (5, 5)
    for i in range(4):
        look.state.add(pool[5 + i].double())  # 8 columns: just within
    look(some, F32)
    assert (look.caught_up, look.anew) == (10, 5)
    for i in range(5):
        look.state.add(pool[5 + i].double())
    look(some, F32)
    assert (look.caught_up, look.anew) == (10, 10)
    look.state.add(pool[10].double())  # longer than the window: nothing is kept
    look(some, F32)
    assert (look.caught_up, look.anew) == (10, 15)
    look(np.array([10, 11]), F32)
    look(np.array([10, 11]), F32)  # longer than dim: K is not kept
    assert (look.caught_up, look.anew) == (10, 19)
    look(some, F64)
    assert (look.caught_up, look.anew) == (10, 24)
    look.close()


def test_slots_are_taken_over_so_that_memory_is_bounded_by_what_was_looked_at_lately() -> None:
    rng = np.random.default_rng(0)
    dim, number = 6, 3000
    pool = TokenBlocks.from_sequence([rng.normal(size=(1, dim)) for _ in range(number)])
    look = Counted(pool)
    looked_at: list[set[int]] = []
    most_lately = 0
    for _ in range(200):
        members = rng.choice(number, 20, replace=False)
        looked_at.append(set(members.tolist()))
        lower, upper = look(np.sort(members), F32)
        assert (lower < upper).all()
        # Each pick is one column: what was looked at within the window may still be caught up.
        most_lately = max(most_lately, len(set().union(*looked_at[-look.state.window - 1 :])))
        look.state.add(pool[int(members[0])].double())
    look.close()
    assert len(set().union(*looked_at)) > 2000
    assert look.slots <= 1.5 * most_lately + 20
    held = look._grams.slots >= 0
    assert len(np.unique(look._grams.slots[held])) == held.sum()  # no two blocks share one


def test_threads_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_JOB_ELEMENTS", 200)
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, 20), 9)) for _ in range(80)])
    seen = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        look = Counted(pool)
        intervals = []
        for step in range(6):
            intervals.append(np.stack(look(np.arange(step, 70), F32)))
            look.state.add(pool[step].double())
        look.close()
        seen.append(np.concatenate(intervals, axis=1))
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5)
