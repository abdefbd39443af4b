"""Timings: one run tells the seconds of every budget, and what it did not reach is estimated or left out."""

from __future__ import annotations

import numpy as np
import pytest

from fishersft.experiments import speed
from fishersft.experiments.speed import timings
from fishersft.numerics import TokenBlocks
from fishersft.numerics.selection import Algorithm


@pytest.fixture
def blocks() -> TokenBlocks:
    rng = np.random.default_rng(0)
    return TokenBlocks.from_sequence([rng.normal(size=(5, 8)) for _ in range(40)])


@pytest.mark.parametrize("algorithm", ["naive", "paper", "lazy"])
def test_every_budget_is_measured_and_a_larger_one_takes_longer(blocks: TokenBlocks, algorithm: Algorithm) -> None:
    found = timings(blocks, algorithm, [20, 2, 10], 1.0, at_most=60)
    assert [timing.budget for timing in found] == [2, 10, 20]
    assert all(timing.measured for timing in found)
    seconds = [timing.seconds for timing in found]
    assert seconds == sorted(seconds)  # type: ignore[type-var]


def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is a second later each time it is read."""
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(ticks)))


def test_algorithm_1_beyond_its_time_is_told_from_the_number_of_its_looks(
    blocks: TokenBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch)
    reached, estimated = timings(blocks, "naive", [2, 20], 1.0, at_most=3)
    assert (reached.seconds, reached.measured) == (2.0, True)
    looks = [sum(40 - pick for pick in range(picks)) for picks in (4, 20)]
    assert (estimated.seconds, estimated.measured) == (4.0 * looks[1] / looks[0], False)


def test_of_algorithm_2_beyond_its_time_nothing_is_told(blocks: TokenBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch)
    reached, beyond = timings(blocks, "paper", [2, 20], 1.0, at_most=3)
    assert reached.measured
    assert (beyond.seconds, beyond.measured) == (None, False)
