from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, certificates, updated_cholesky, v_optimal
from fishersft.numerics.greedy import Picks
from fishersft.numerics.information import scaled
from fishersft.numerics.reference_v import naive_v_optimal
from fishersft.numerics.v_optimal import (
    moment_factor,
    prediction_variance,
    second_moment,
    v_optimal_greedy,
    variance_reduction,
)
from tests.unit.numerics.conftest import block_lists

F64 = torch.float64


def gaussian_blocks(number: int, dim: int, longest: int, seed: int = 0) -> TokenBlocks:
    rng = np.random.default_rng(seed)
    return TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, longest + 1), dim)) for _ in range(number)])


def random_moment(dim: int, rank: int, seed: int) -> torch.Tensor:
    rows = torch.randn(rank, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return rows.T @ rows / rank


def greedy(pool: TokenBlocks, budget: int, moment: torch.Tensor, **options: Any) -> Picks:
    unit, rule = options.pop("budget_unit", "sentences"), options.pop("rule", "gain")
    picks = Picks(pool.lengths.numpy(), pool.dim, budget, unit, rule)
    v_optimal_greedy(pool, picks, moment, **options)
    return picks


def naive(pool: TokenBlocks, budget: int, moment: torch.Tensor, **options: Any) -> Picks:
    unit, rule = options.pop("budget_unit", "sentences"), options.pop("rule", "gain")
    picks = Picks(pool.lengths.numpy(), pool.dim, budget, unit, rule)
    naive_v_optimal(pool, picks, moment, **options)
    return picks


def dense_variance(rows: np.ndarray, moment: torch.Tensor, lam: float) -> float:
    """tr(A^-1 M) as it is defined, nothing divided by lambda beforehand."""
    return float(np.trace(np.linalg.inv(lam * np.eye(rows.shape[1]) + rows.T @ rows) @ moment.numpy()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("lam", [1e-2, 1.0, 1e6])
def test_the_second_moment_is_the_mean_over_tokens_whatever_the_chunks(
    dtype: torch.dtype, lam: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_CHUNK_ELEMENTS", 20)  # five rows
    values = torch.randn(23, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    moment = second_moment(TokenBlocks(values, torch.tensor([0, 3, 3, 23])), lam)
    assert moment.dtype == F64
    torch.testing.assert_close(moment, values.double().T @ values.double() / 23 / lam, rtol=1e-13, atol=0)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_factor_of_a_moment_has_a_row_for_each_direction_with_energy(rank: int) -> None:
    moment = random_moment(6, rank, seed=rank)
    root = moment_factor(moment)
    assert root.shape == (rank, 6)
    torch.testing.assert_close(root.T @ root, moment, rtol=1e-12, atol=1e-13)
    assert moment_factor(torch.zeros(3, 3, dtype=F64)).shape == (0, 3)


@settings(max_examples=100, deadline=None)
@given(
    block_lists(),
    st.sampled_from([1e-2, 1.0, 1e4]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_a_reduction_is_the_difference_of_dense_variances(
    blocks: list[np.ndarray], lam: float, dtype: torch.dtype, rank: int, seed: int
) -> None:
    narrow = [torch.from_numpy(block).to(dtype) for block in blocks]
    rows = np.concatenate([block.double().numpy() for block in narrow])
    before, block = rows[: len(rows) - len(blocks[-1])], narrow[-1]
    moment = random_moment(rows.shape[1], rank, seed)
    cholesky = torch.eye(rows.shape[1], dtype=F64)
    for earlier in narrow[:-1]:
        cholesky = updated_cholesky(cholesky, scaled(earlier, lam))
    root = moment_factor(moment / lam)

    reduction = variance_reduction(cholesky, scaled(block, lam), root)
    variance = dense_variance(before, moment, lam)
    assert prediction_variance(cholesky, root) == pytest.approx(variance, rel=1e-7)
    # the dense difference errs by the condition number of A (up to some 1e8 here) times rounding
    assert reduction == pytest.approx(variance - dense_variance(rows, moment, lam), rel=1e-7, abs=1e-7 * variance)
    assert 0 <= reduction <= variance * (1 + 1e-7)


def test_a_tiny_reduction_keeps_its_digits() -> None:
    one = torch.ones(1, 1, dtype=F64)
    assert variance_reduction(one, 1e-9 * one, one) == pytest.approx(1e-18, rel=1e-12)


def test_a_huge_block_leaves_no_variance_in_its_directions_and_all_in_the_others() -> None:
    block = torch.tensor([[1e12, 0.0], [1e12, 0.0]], dtype=F64)
    cholesky = torch.eye(2, dtype=F64)
    assert variance_reduction(cholesky, block, torch.diag(torch.tensor([3.0, 2.0], dtype=F64))) == pytest.approx(9)
    assert variance_reduction(cholesky, torch.zeros(0, 2), torch.eye(2, dtype=F64)) == 0.0


@settings(max_examples=100, deadline=None)
@given(
    block_lists(scales=(1.0,), permuted=False),
    st.sampled_from([1e-1, 1.0, 1e4, 1e8]),
    st.integers(2, 9),
    st.integers(0, 99),
    st.data(),
)
def test_exact_greedy_gives_the_picks_of_the_reference(
    blocks: list[np.ndarray], lam: float, rank: int, seed: int, data: st.DataObject
) -> None:
    pool = TokenBlocks.from_sequence(blocks)
    unit = data.draw(st.sampled_from(["sentences", "tokens"]))
    rule = data.draw(st.sampled_from(["gain", "gain per token"]))
    # Few enough that the reductions left are well above what dense differences can tell apart.
    budget = data.draw(st.integers(1, 4))
    moment = random_moment(pool.dim, rank, seed) / lam
    reference = naive(pool, budget, moment, budget_unit=unit, rule=rule, regularization=lam)
    exact = greedy(pool, budget, moment, budget_unit=unit, rule=rule, regularization=lam)
    assert exact.indices == reference.indices
    np.testing.assert_allclose(exact.gains, reference.gains, rtol=1e-6, atol=1e-10 * float(moment.trace()))


@settings(max_examples=100, deadline=None)
@given(block_lists(), st.sampled_from([1e-6, 1.0, 1e8]), st.sampled_from([1e-4, 1.0, 1e4]), st.integers(0, 99))
def test_every_exact_pick_is_a_best_one_at_any_scale(
    blocks: list[np.ndarray], lam: float, scale: float, seed: int
) -> None:
    """Where dense inverses lose their digits: against reductions by singular values."""
    pool = TokenBlocks.from_sequence([block * scale for block in blocks])
    moment = random_moment(pool.dim, 3, seed) * scale**2 / lam
    picks = greedy(pool, 4, moment, regularization=lam)
    cholesky, root = torch.eye(pool.dim, dtype=F64), moment_factor(moment)
    left = [i for i in range(len(pool)) if len(pool[i])]
    assert len(picks.indices) == min(4, len(left))
    for index, gain in zip(picks.indices, picks.gains, strict=True):
        gains = {i: variance_reduction(cholesky, scaled(pool[i], lam), root) for i in left}
        tie = 1e-14 * (pool.dim + picks.gain) * min(1.0, float(moment.trace()))
        assert gain == pytest.approx(gains[index], rel=1e-6, abs=tie)
        assert gain >= max(gains.values()) * (1 - 1e-6) - tie
        cholesky = updated_cholesky(cholesky, scaled(pool[index], lam))
        left.remove(index)


@pytest.mark.parametrize("every_block", [True, False])
def test_the_gains_add_up_to_the_fall_of_the_variance(every_block: bool) -> None:
    pool, target, lam = gaussian_blocks(40, 8, 12), gaussian_blocks(5, 8, 9, seed=1), 0.5
    moment = second_moment(target, lam)
    picks = greedy(pool, 15, moment, regularization=lam, every_block=every_block)
    rows = np.concatenate([pool[i].numpy() for i in picks.indices])
    before, after = (dense_variance(some, moment * lam, lam) for some in (rows[:0], rows))
    assert picks.gain == pytest.approx(before - after, rel=1e-9)
    assert after < 0.1 * before


def test_exact_greedy_agrees_with_the_reference_over_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, moment = gaussian_blocks(60, 8, 30), random_moment(8, 8, 2)
    monkeypatch.setattr(v_optimal, "_BATCH_ELEMENTS", 100)
    exact, reference = greedy(pool, 20, moment), naive(pool, 20, moment)
    assert exact.indices == reference.indices
    np.testing.assert_allclose(exact.gains, reference.gains, rtol=1e-8)


def test_batches_hold_every_block_once_within_the_memory_bound() -> None:
    pool = gaussian_blocks(300, 16, 60)
    seen = np.zeros(300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v_optimal, "_BATCH_ELEMENTS", 4000)
        for part, rows in v_optimal._padded_batches(pool, np.arange(300)):
            seen[part] += 1
            assert rows.numel() <= 4000
            for i, padded in zip(part, rows, strict=True):
                length = len(pool[int(i)])
                assert torch.equal(padded[:length], pool[int(i)])
                assert not padded[length:].any()
    assert (seen == 1).all()


# The target has energy in the first and the third direction. `wide` points at both the first, where it would help,
# and the second, where it is uncertain; `link` ties the second direction to the third.
LINK, WIDE, PLAIN = [[0.0, 9.0, 9.0]], [[1.0, 3.0, 0.0]], [[1.0, 0.0, 0.0]]
TARGET = torch.diag(torch.tensor([1.0, 0.0, 10.0], dtype=F64))


def test_the_criterion_is_not_submodular_a_block_may_take_off_more_later() -> None:
    cholesky, root = torch.eye(3, dtype=F64), moment_factor(TARGET)
    link, wide = torch.tensor(LINK, dtype=F64), torch.tensor(WIDE, dtype=F64)
    first = variance_reduction(cholesky, wide, root)
    later = variance_reduction(updated_cholesky(cholesky, link), wide, root)
    assert first == pytest.approx(1 / 11)  # e1' A^-1 x = 1, and K = 1 + 10
    assert later > 3.0 > first


def test_so_the_lazy_evaluation_may_miss_the_best_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = TokenBlocks.from_sequence([LINK, WIDE, PLAIN])
    assert naive(pool, 2, TARGET).indices == [0, 1]
    assert greedy(pool, 2, TARGET).indices == [0, 1]
    monkeypatch.setattr(v_optimal, "_BATCH", 1)  # else it looks at all three again
    lazy = greedy(pool, 2, TARGET, every_block=False)
    assert lazy.indices == [0, 2]
    assert lazy.gain < greedy(pool, 2, TARGET).gain


def test_the_lazy_evaluation_looks_at_fewer_blocks_and_ends_near() -> None:
    pool, moment = gaussian_blocks(600, 12, 6), random_moment(12, 4, 3)
    exact, lazy = (greedy(pool, 30, moment, every_block=every_block) for every_block in (True, False))
    assert exact.evaluations >= sum(600 - step for step in range(30))
    assert lazy.evaluations < exact.evaluations / 3
    assert lazy.gain == pytest.approx(exact.gain, rel=0.02)


def test_a_target_in_some_directions_prefers_the_blocks_in_them() -> None:
    strong_elsewhere = [np.eye(6)[[0, 1, 2]] * 50 * (1 + k) for k in range(4)]
    in_the_target = [np.eye(6)[[3 + k]] for k in range(3)]
    pool = TokenBlocks.from_sequence([*strong_elsewhere, *in_the_target])
    target = TokenBlocks.from_sequence([np.eye(6)[3:] * [[1.0], [3.0], [2.0]]])
    picks = greedy(pool, 3, second_moment(target))
    assert picks.indices == [5, 6, 4]  # most energy first
    np.testing.assert_allclose(picks.gains, np.array([9, 4, 1]) / 3 / 2)  # a variance of 1 each falls to a half


def test_it_goes_on_from_what_was_already_selected() -> None:
    pool, moment = gaussian_blocks(30, 6, 8), random_moment(6, 6, 4)
    whole = greedy(pool, 8, moment, regularization=2.0)
    cholesky = torch.eye(6, dtype=F64)
    for i in whole.indices[:3]:
        cholesky = updated_cholesky(cholesky, scaled(pool[i], 2.0))
    rest = Picks(pool.lengths.numpy(), pool.dim, 5)
    rest.open[whole.indices[:3]] = False
    v_optimal_greedy(pool, rest, moment, cholesky=cholesky, regularization=2.0)
    assert rest.indices == whole.indices[3:]


@pytest.mark.parametrize("every_block", [True, False])
def test_of_equal_blocks_the_lower_index_comes_first(every_block: bool) -> None:
    block = np.random.default_rng(0).normal(size=(5, 7))
    pool = TokenBlocks.from_sequence(
        [block * 0.1, block, np.zeros((0, 7)), block[::-1], block, np.zeros((2, 7)), np.zeros((3, 7)), block]
    )
    picks = greedy(pool, 8, random_moment(7, 7, 5), every_block=every_block)
    assert picks.indices == [1, 3, 4, 7, 0, 5, 6]  # never the empty one


@pytest.mark.parametrize("run", [greedy, naive])
def test_a_strong_prior_does_not_make_ties_of_small_reductions(run: Any) -> None:
    pool, lam = TokenBlocks.from_sequence([[[1.0, 0.0]], [[1.0001, 0.0]]]), 1e8
    assert run(pool, 1, torch.eye(2, dtype=F64) / lam, regularization=lam).indices == [1]


def test_copies_cost_one_exact_evaluation_not_one_each() -> None:
    block = np.random.default_rng(0).normal(size=(5, 7))
    picks = greedy(TokenBlocks.from_sequence([block] * 100), 3, random_moment(7, 7, 5))
    assert picks.indices == [0, 1, 2]
    assert picks.evaluations == 100 + 99 + 98 + 3


def test_a_target_without_energy_leaves_nothing_to_choose_by() -> None:
    picks = greedy(gaussian_blocks(5, 3, 4), 3, torch.zeros(3, 3, dtype=F64))
    assert (picks.indices, picks.gains) == ([0, 1, 2], [0.0, 0.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_blocks_are_computed_in_float64(dtype: torch.dtype) -> None:
    wide = gaussian_blocks(40, 8, 12)
    narrow = TokenBlocks(wide.values.to(dtype), wide.offsets)
    moment = random_moment(8, 5, 6)
    few, same = (greedy(pool, 8, moment) for pool in (narrow, TokenBlocks(narrow.values.double(), narrow.offsets)))
    assert few.indices == same.indices
    assert few.gains == same.gains


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("every_block", [True, False])
def test_a_gpu_gives_the_picks_of_the_cpu(every_block: bool) -> None:
    pool, moment = gaussian_blocks(200, 16, 40), random_moment(16, 9, 7)
    gpu, cpu = (greedy(pool, 25, moment, every_block=every_block, device=device) for device in ("cuda", "cpu"))
    assert gpu.indices == cpu.indices
    np.testing.assert_allclose(gpu.gains, cpu.gains, rtol=1e-9)


def test_no_order_of_picks_ends_under_the_variance_of_all_blocks() -> None:
    pool, moment = gaussian_blocks(6, 4, 3), random_moment(4, 4, 8)
    everything = greedy(pool, 6, moment)
    assert sorted(everything.indices) == list(range(6))
    best = max(
        float(moment.trace()) - dense_variance(np.concatenate([pool[i].numpy() for i in subset]), moment, 1.0)
        for subset in itertools.combinations(range(6), 2)
    )
    assert greedy(pool, 2, moment).gain <= best * (1 + 1e-12) < everything.gain


def test_bad_input_is_named() -> None:
    pool = gaussian_blocks(3, 4, 3)
    for run in (greedy, naive):
        with pytest.raises(InputError, match=r"shape \(5, 5\), the token blocks have dim 4"):
            run(pool, 1, torch.eye(5, dtype=F64))  # type: ignore[operator]
    with pytest.raises(InputError, match="the target set holds no token"):
        second_moment(TokenBlocks(torch.zeros(0, 4), torch.tensor([0, 0])))
    with pytest.raises(InputError, match="token block 0 holds NaN"):
        second_moment(TokenBlocks(torch.full((1, 4), torch.nan), torch.tensor([0, 1])))
