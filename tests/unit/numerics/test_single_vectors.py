from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fishersft.numerics import TokenBlocks, information_gains_along, select, single_vectors, tiers
from fishersft.numerics.greedy import Conditions, Picks
from fishersft.numerics.information import block_gain, vector_gains
from fishersft.numerics.leverages import Leverages
from fishersft.numerics.reference import naive_greedy
from fishersft.numerics.single_vectors import holds_single_vectors, vector_greedy
from fishersft.numerics.state import VectorState
from fishersft.numerics.threads import torch_threads
from fishersft.numerics.tiers import Tiers

F64 = torch.float64


@pytest.fixture
def short_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiers in a pool of a few dozen vectors."""
    monkeypatch.setattr(tiers, "_LEAST", 3)
    monkeypatch.setattr(tiers, "_SHARE", 2)
    monkeypatch.setattr(single_vectors, "_MANY", 4)


@st.composite
def vector_pools(draw: st.DrawFn, most: int = 60) -> TokenBlocks:
    """Single vectors of several kinds and lengths; copies, near copies, zero vectors and empty blocks among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, number = draw(st.integers(1, 8)), draw(st.integers(1, most))
    kind = draw(st.sampled_from(["gaussian", "unit", "one-hot", "scaled"]))
    vectors = rng.normal(size=(number, dim))
    if kind == "unit":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if kind == "one-hot":
        vectors = np.eye(dim)[rng.integers(dim, size=number)]
    if kind == "scaled":
        vectors *= rng.choice([0.01, 1.0, 30.0], size=(number, 1))
    for i in np.flatnonzero(rng.random(number) < draw(st.sampled_from([0.0, 0.5]))):
        vectors[i] = vectors[rng.integers(number)] * rng.choice([1.0, 1.0, 1 + 1e-6, 0.0])
    held = rng.random(number) < draw(st.sampled_from([0.8, 1.0]))
    held[0] = True
    offsets = torch.from_numpy(np.concatenate([[0], held.cumsum()]))
    return TokenBlocks(torch.from_numpy(vectors[held]), offsets)


def run(pool: TokenBlocks, algorithm: object, lam: float = 1.0, **conditions: object) -> Picks:
    picks = Picks(
        pool.lengths.numpy(), pool.dim, conditions.pop("budget", len(pool)), conditions=Conditions(**conditions)
    )  # type: ignore[arg-type]
    algorithm(pool, picks, regularization=lam)  # type: ignore[operator]
    return picks


@pytest.mark.usefixtures("short_tiers")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector_pools(), st.sampled_from([0.1, 1.0, 50.0]), st.data())
def test_the_picks_over_many_tiers_are_those_of_algorithm_1(pool: TokenBlocks, lam: float, data: st.DataObject) -> None:
    held = np.flatnonzero(pool.lengths.numpy()).tolist()
    asked = {
        "budget": data.draw(st.integers(1, len(pool))),
        "exclude": data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=3)),
        "groups": [i % 3 for i in range(len(pool))],
        "quotas": data.draw(st.sampled_from([{}, {0: 2}, {0: 1, 1: 4}] if len(pool) > 1 else [{}])),
    }
    include = [i for i in data.draw(st.lists(st.sampled_from(held), max_size=3, unique=True)) if i % 3 == 2]
    asked["include"] = [i for i in include if i not in asked["exclude"]][: asked["budget"]]
    naive, fast = run(pool, naive_greedy, lam, **asked), run(pool, vector_greedy, lam, **asked)
    assert fast.indices == naive.indices
    np.testing.assert_allclose(fast.gains, naive.gains, rtol=1e-6, atol=1e-11)


@pytest.mark.usefixtures("short_tiers")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector_pools(), st.sampled_from([1e-4, 1.0, 1e6, 1e8]), st.sampled_from([1e-3, 1.0]))
def test_every_pick_is_a_best_one_at_any_scale(pool: TokenBlocks, scale: float, lam: float) -> None:
    pool = TokenBlocks(pool.values * scale, pool.offsets)
    picks = run(pool, vector_greedy, lam, budget=8)
    for step, (index, gain) in enumerate(zip(picks.indices, picks.gains, strict=True)):
        others = [i for i in range(len(pool)) if i not in picks.indices[:step] and len(pool[i])]
        gains = {i: information_gains_along(pool, [*picks.indices[:step], i], lam)[-1] for i in others}
        assert gain == pytest.approx(gains[index], rel=1e-6)
        assert gain >= max(gains.values()) * (1 - 1e-6) - 1e-12


@pytest.mark.usefixtures("short_tiers")
def test_a_run_that_was_cut_off_goes_on_to_the_same_picks() -> None:
    pool = TokenBlocks(torch.from_numpy(np.random.default_rng(0).normal(size=(300, 6))), torch.arange(301))
    whole = run(pool, vector_greedy, budget=40)
    picks = Picks(pool.lengths.numpy(), pool.dim, 40)
    for index, gain in zip(whole.indices[:17], whole.gains[:17], strict=True):
        picks.take(index, gain)
    vector_greedy(pool, picks)
    assert picks.indices == whole.indices
    np.testing.assert_allclose(picks.gains, whole.gains, rtol=1e-12)


@pytest.mark.usefixtures("short_tiers")
def test_most_vectors_are_not_looked_at_at_every_pick() -> None:
    pool = TokenBlocks(torch.from_numpy(np.random.default_rng(0).normal(size=(3000, 8))), torch.arange(3001))
    assert run(pool, vector_greedy, budget=50).evaluations < 50 * 3000 / 2


def test_many_copies_are_told_apart_once_and_the_lower_index_comes_first() -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(2, 4)), 3000, axis=0)
    picks = run(TokenBlocks(torch.from_numpy(rows), torch.arange(6001)), vector_greedy, budget=30)
    first, second = (sorted(i for i in picks.indices if (i < 3000) is low) for low in (True, False))
    assert first == list(range(len(first)))
    assert second == list(range(3000, 3000 + len(second)))
    assert min(len(first), len(second)) > 5


def test_threads_are_given_back() -> None:
    with torch_threads(2):
        run(TokenBlocks(torch.eye(3), torch.arange(4)), vector_greedy)
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("values", "lam", "fits"), [(1e3, 1.0, True), (1e3, 1e-34, False), (1e30, 1.0, False)])
def test_vectors_whose_squares_float32_cannot_hold_are_left_to_lazy_greedy(
    values: float, lam: float, fits: bool
) -> None:
    pool = TokenBlocks(torch.eye(3, dtype=F64) * values, torch.arange(4))
    assert holds_single_vectors(pool, lam) is fits
    assert not holds_single_vectors(TokenBlocks(torch.eye(3), torch.tensor([0, 2, 3])), 1.0)
    assert select(pool, 3, regularization=lam, device="cpu").indices.tolist() == [0, 1, 2]


@settings(max_examples=80, deadline=None)
@given(vector_pools(), st.sampled_from([1e-3, 1.0, 1e3]), st.sampled_from([1e-2, 1.0, 1e4]), st.data())
def test_the_leverage_in_float64_is_within_every_interval(
    pool: TokenBlocks, scale: float, lam: float, data: st.DataObject
) -> None:
    rows = pool.values * scale
    state = VectorState(torch.eye(pool.dim, dtype=F64), torch.device("cpu"))
    leverages = Leverages(rows.float(), state, lam**-0.5)
    narrow = rows.float().double() / lam**0.5
    for refresh in data.draw(st.lists(st.sampled_from(["catch up", "anew", "not"]), max_size=20)):
        state.add(narrow[data.draw(st.integers(0, len(rows) - 1))][None])
        if refresh == "anew":
            leverages.start_anew()
        elif refresh == "catch up":
            leverages.catch_up()
        exact = vector_gains(state.cholesky, narrow).expm1().numpy()
        assert (exact <= leverages.upper() * (1 + 1e-12)).all()
        if refresh != "not":
            assert (leverages.lower() <= exact * (1 + 1e-12)).all()


def test_the_gain_of_vectors_is_that_of_blocks_of_one_token() -> None:
    rng = np.random.default_rng(0)
    cholesky = torch.linalg.cholesky(torch.eye(5, dtype=F64) + torch.from_numpy(np.cov(rng.normal(size=(5, 40)))))
    vectors = torch.from_numpy(rng.normal(size=(7, 5)))
    single = [block_gain(cholesky, vector[None]) for vector in vectors]
    np.testing.assert_allclose(vector_gains(cholesky, vectors), single, rtol=1e-14)


@pytest.mark.usefixtures("short_tiers")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector_pools())
def test_no_leverage_exceeds_its_upper_bound_in_any_tier(pool: TokenBlocks) -> None:
    state = VectorState(torch.eye(pool.dim, dtype=F64), torch.device("cpu"))
    members = np.flatnonzero(pool.lengths.numpy())
    kept = Tiers(members, pool.values.float(), state, 1.0, 1)
    kept.redraw(1, np.ones(len(pool), dtype=bool))
    for step, row in enumerate(pool.values[:10]):
        state.add(row[None].double())
        if step % 3 == 0 and (tier := kept.outdated(float(kept.intervals()[0].max()))) is not None:
            kept.redraw(tier, np.ones(len(pool), dtype=bool))
        exact = vector_gains(state.cholesky, pool.values).expm1().numpy()
        assert (exact <= kept.upper_bounds(len(pool))[members] * (1 + 1e-6) + 1e-12).all()
