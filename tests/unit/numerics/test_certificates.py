from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import Certificate, PrefixBound, TokenBlocks, frank_wolfe_bound, prefix_bound, select
from tests.unit.numerics.conftest import block_lists

CERTIFIERS = [prefix_bound, frank_wolfe_bound]
REGULARIZATIONS = st.sampled_from([1e-6, 1e-3, 1.0, 1e4, 1e8])
UNITS = st.sampled_from(["sentences", "tokens"])


def gain_of(blocks: list[np.ndarray], chosen: tuple[int, ...], regularization: float = 1.0) -> float:
    """By singular values, which keep all digits at any scale."""
    rows = np.concatenate([blocks[i] for i in chosen] or [blocks[0][:0]])
    return float(np.log1p(np.linalg.svd(rows / math.sqrt(regularization), compute_uv=False) ** 2).sum())


def best_possible(blocks: list[np.ndarray], budget: int, unit: str, regularization: float) -> float:
    """Of all subsets within the budget; the empty one is among them."""
    costs = [len(block) if unit == "tokens" else 1 for block in blocks]
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(len(blocks)), size) for size in range(len(blocks) + 1)
    )
    return max(gain_of(blocks, s, regularization) for s in subsets if sum(costs[i] for i in s) <= budget)


def gaussian(sentences: int, dim: int, seed: int = 0) -> TokenBlocks:
    values = np.random.default_rng(seed).normal(size=(sentences, dim))
    return TokenBlocks(torch.from_numpy(values), torch.arange(sentences + 1))


@settings(max_examples=150, deadline=None)
@given(block_lists(max_blocks=7, max_dim=6), st.sampled_from([1e-6, 1.0, 1e6]), REGULARIZATIONS, UNITS, st.data())
def test_no_bound_is_under_the_true_optimum(
    blocks: list[np.ndarray], scale: float, lam: float, unit: str, data: st.DataObject
) -> None:
    blocks = [block * scale for block in blocks]
    most = sum(map(len, blocks)) if unit == "tokens" else len(blocks)
    budget = data.draw(st.integers(1, most + 1))
    selection = select(blocks, budget, budget_unit=unit, regularization=lam, device="cpu")  # type: ignore[arg-type]
    optimum = best_possible(blocks, budget, unit, lam)
    for certify in CERTIFIERS:
        certificate = certify(
            TokenBlocks.from_sequence(blocks),
            selection.indices,
            budget,
            budget_unit=unit,  # type: ignore[arg-type]
            regularization=lam,
        )
        assert math.isfinite(certificate.upper_bound)
        assert certificate.upper_bound >= optimum * (1 - 1e-14)  # the optimum itself is known to rounding only
        assert certificate.information_gain == pytest.approx(gain_of(blocks, tuple(selection.indices), lam), rel=1e-5)
        assert certificate.information_gain <= certificate.upper_bound * (1 + 1e-12)
        assert 0 <= certificate.ratio <= 1


@settings(max_examples=60, deadline=None)
@given(block_lists(max_blocks=7, max_dim=6), REGULARIZATIONS, UNITS, st.data())
def test_stale_gains_prove_a_bound_at_every_pick(
    blocks: list[np.ndarray], lam: float, unit: str, data: st.DataObject
) -> None:
    lengths = np.array([len(block) for block in blocks])
    budget = data.draw(st.integers(1, int(lengths.sum()) if unit == "tokens" else len(blocks)))
    selection = select(blocks, budget, budget_unit=unit, regularization=lam, device="cpu")  # type: ignore[arg-type]
    bound = PrefixBound(budget, unit, lengths)  # type: ignore[arg-type]
    stale = np.array([gain_of(blocks, (i,), lam) for i in range(len(blocks))])
    history = [bound.value]
    for step in range(len(selection) + 1):
        chosen = tuple(selection.indices[:step])
        refreshed = data.draw(st.lists(st.integers(0, len(blocks) - 1)))
        so_far = gain_of(blocks, chosen, lam)
        stale[refreshed] = [gain_of(blocks, (*chosen, i), lam) - so_far for i in refreshed]
        stale[list(chosen)] = 0
        bound.update(so_far, stale)
        history.append(bound.value)
    assert history[0] == math.inf
    assert all(later <= earlier for earlier, later in itertools.pairwise(history))
    assert bound.value >= best_possible(blocks, budget, unit, lam) * (1 - 1e-14) - 1e-14


def test_an_unknown_gain_proves_nothing_and_spoils_nothing() -> None:
    bound = PrefixBound(1, "tokens", np.array([1, 1]))
    bound.update(0.0, np.array([2.0, np.inf]))
    assert bound.value == math.inf
    bound.update(0.0, np.array([2.0, 1.0]))
    assert bound.value == pytest.approx(2.0)


def test_a_token_budget_is_bounded_by_the_fractional_knapsack() -> None:
    bound = PrefixBound(5, "tokens", np.array([2, 4, 9, 0]))
    bound.update(1.0, np.array([4.0, 6.0, 90.0, 7.0]))  # 4 for two tokens, 3 / 4 of 6 for three; the others never fit
    assert bound.value == pytest.approx(1 + 4 + 4.5)


@pytest.mark.parametrize("lam", [1e-6, 1.0, 1e8])
def test_of_orthogonal_equal_blocks_the_prefix_bound_shows_any_to_be_optimal(lam: float) -> None:
    pool = TokenBlocks(3 * torch.eye(12), torch.arange(0, 13, 2))
    certificate = prefix_bound(pool, [4, 1, 0], 3, regularization=lam)
    assert certificate.information_gain == pytest.approx(6 * math.log1p(9 / lam), rel=1e-9)
    assert certificate.ratio == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("lam", [1e-6, 1.0, 1e8])
def test_the_relaxation_is_exact_where_all_fits_and_spreads_where_it_may(lam: float) -> None:
    pool = TokenBlocks(3 * torch.eye(6), torch.arange(0, 7, 2))
    everything = frank_wolfe_bound(pool, [0, 1, 2], 3, regularization=lam)
    assert everything.ratio == pytest.approx(1, abs=1e-9)
    assert str(everything) == "at least 100.0% of the best possible"
    spread = frank_wolfe_bound(pool, [1], 1, regularization=lam, relative_gap=0.0)  # a third of each block
    assert spread.upper_bound == pytest.approx(6 * math.log1p(9 / lam / 3), rel=1e-6)


@pytest.mark.parametrize("certify", CERTIFIERS)
@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_choosing_everything_is_the_best_possible(certify: object, unit: str) -> None:
    rng = np.random.default_rng(3)
    blocks = [rng.normal(size=(tokens, 5)) * 40 for tokens in (1, 7, 0, 3)]
    certificate = certify(TokenBlocks.from_sequence(blocks), [1, 3, 0], 11, budget_unit=unit)  # type: ignore[operator]
    assert certificate.ratio == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("certify", CERTIFIERS)
def test_where_nothing_can_be_gained_the_ratio_is_one(certify: object) -> None:
    certificate = certify(TokenBlocks(torch.zeros(3, 2), torch.arange(4)), [0], 1)  # type: ignore[operator]
    assert (certificate.information_gain, certificate.upper_bound, certificate.ratio) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("certify", CERTIFIERS)
def test_the_empty_selection_of_a_pool_worth_something_is_certified_as_nothing(certify: object) -> None:
    certificate = certify(gaussian(4, 3), [], 2)  # type: ignore[operator]
    assert certificate.information_gain == 0.0
    assert certificate.ratio == 0.0


@pytest.mark.parametrize("certify", CERTIFIERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_embeddings_are_taken_as_the_numbers_they_are(certify: object, dtype: torch.dtype) -> None:
    narrow = TokenBlocks(gaussian(60, 8).values.to(dtype), torch.arange(61))
    wide = TokenBlocks(narrow.values.double(), narrow.offsets)
    first, second = (certify(pool, range(10), 10) for pool in (narrow, wide))  # type: ignore[operator]
    assert first.upper_bound == pytest.approx(second.upper_bound, rel=1e-9)


@pytest.mark.parametrize("certify", CERTIFIERS)
def test_weighted_tokens_are_certified_as_the_blocks_they_make(certify: object) -> None:
    rng = np.random.default_rng(5)
    blocks = [rng.normal(size=(3, 4)) for _ in range(7)]
    weighted = [block * np.sqrt(rng.uniform(0, 1, size=(3, 1))) for block in blocks]
    certificate = certify(TokenBlocks.from_sequence(weighted), [0, 1, 2], 3)  # type: ignore[operator]
    assert certificate.upper_bound >= best_possible(weighted, 3, "sentences", 1.0)


@pytest.mark.parametrize("certify", CERTIFIERS)
@pytest.mark.parametrize("scale", [1e20, 1e99])
def test_bounds_stay_finite_and_valid_at_absurd_scales(certify: object, scale: float) -> None:
    rng = np.random.default_rng(6)
    blocks = [rng.normal(size=(2, 5)) / 10 * scale for _ in range(6)]
    certificate = certify(TokenBlocks.from_sequence(blocks), [0, 1], 2)  # type: ignore[operator]
    assert best_possible(blocks, 2, "sentences", 1.0) <= certificate.upper_bound < math.inf


def test_the_dual_bound_only_improves_and_beats_the_prefix_bound_on_gaussian_vectors() -> None:
    pool = gaussian(600, 32)
    selection = select(pool, 50, device="cpu")
    history: list[float] = []
    dual = frank_wolfe_bound(
        pool, selection.indices, 50, relative_gap=1e-5, on_progress=lambda _, bound: history.append(bound)
    )
    assert len(history) > 5
    assert all(later <= earlier for earlier, later in itertools.pairwise(history))
    assert dual.upper_bound == history[-1] < history[0]
    assert prefix_bound(pool, selection.indices, 50).ratio < 0.9
    assert dual.ratio > 0.93


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_the_iterates_reach_the_optimum_of_the_relaxation(unit: str) -> None:
    """It stopped by itself, so the bound is within the gap of a feasible point's value."""
    rng = np.random.default_rng(7)
    pool = TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, 9), 10)) for _ in range(80)])
    budget = 12 if unit == "sentences" else 60
    selection = select(pool, budget, budget_unit=unit, device="cpu")  # type: ignore[arg-type]
    iterations: list[int] = []
    frank_wolfe_bound(
        pool,
        selection.indices,
        budget,
        budget_unit=unit,  # type: ignore[arg-type]
        max_iterations=200,
        relative_gap=1e-6,
        on_progress=lambda iteration, _: iterations.append(iteration),
    )
    assert 0 < iterations[-1] < 200


def test_the_time_limit_ends_the_iterations() -> None:
    ticks = itertools.count()  # one second for each look at the clock: at the start, then after each iteration
    iterations: list[int] = []
    certificate = frank_wolfe_bound(
        gaussian(200, 16),
        range(20),
        20,
        time_limit=3,
        relative_gap=0.0,
        clock=lambda: float(next(ticks)),
        on_progress=lambda iteration, _: iterations.append(iteration),
    )
    assert iterations == [0, 1, 2]
    assert certificate.information_gain <= certificate.upper_bound < math.inf


def test_the_sentence_never_rounds_up() -> None:
    assert str(Certificate(0.9619, 1.0, "prefix")) == "at least 96.1% of the best possible"
    assert str(Certificate(0.9999, 1.0, "prefix")) == "at least 99.9% of the best possible"


@pytest.mark.parametrize("certify", CERTIFIERS)
@pytest.mark.parametrize(
    ("selected", "unit", "message"),
    [
        ([0, 1, 2], "sentences", "costs 3 sentences, more than the budget of 2"),
        ([0, 2], "tokens", "costs 4 tokens, more than the budget of 2"),
        ([1, 1], "sentences", "names a block twice"),
        ([5], "sentences", "names block 5"),
        ([-1], "sentences", "or a negative one"),
    ],
)
def test_a_selection_that_is_not_of_this_problem_is_refused(
    certify: object, selected: list[int], unit: str, message: str
) -> None:
    pool = TokenBlocks(torch.eye(6), torch.tensor([0, 2, 3, 5, 6]))
    with pytest.raises(InputError, match=message):
        certify(pool, selected, 2, budget_unit=unit)  # type: ignore[operator]
