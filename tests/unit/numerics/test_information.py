from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.numerics import TokenBlocks, block_gain, information_gains_along, updated_cholesky
from tests.unit.numerics.conftest import block_lists

REGULARIZATIONS = st.sampled_from([1e-3, 1.0, 1e4, 1e8])


def test_block_gain_matches_a_determinant_by_hand() -> None:
    cholesky = torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)  # A = [[4, 2], [2, 2]], det 4
    block = torch.tensor([[1.0, 0.0]])  # A + X^T X = [[5, 2], [2, 2]], det 6
    assert block_gain(cholesky, block) == pytest.approx(math.log(6 / 4), rel=1e-14)


def test_a_tiny_gain_keeps_its_digits() -> None:
    block = torch.tensor([[1e-8]], dtype=torch.float64)
    assert block_gain(torch.eye(1, dtype=torch.float64), block) == pytest.approx(1e-16, rel=1e-12)


def test_a_block_without_tokens_adds_nothing() -> None:
    cholesky = torch.eye(3, dtype=torch.float64)
    assert block_gain(cholesky, torch.zeros(0, 3)) == 0.0
    assert torch.equal(updated_cholesky(cholesky, torch.zeros(0, 3)), cholesky)


@pytest.mark.parametrize("tokens", [1, 5, 90])
@pytest.mark.parametrize("dim", [1, 40])
def test_the_updated_factor_is_one_of_the_sum(tokens: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(1)
    before = torch.randn(dim, dim, generator=generator, dtype=torch.float64).tril() + 4 * torch.eye(dim)
    kept = before.clone()
    block = torch.randn(tokens, dim, generator=generator)
    after = updated_cholesky(before, block)
    assert torch.equal(after, after.tril())
    assert torch.equal(before, kept)
    torch.testing.assert_close(after @ after.T, before @ before.T + block.double().T @ block.double())


def test_the_factor_survives_what_the_matrix_itself_would_not() -> None:
    block = torch.tensor([[1e10, 1e10], [1e10, 1e10]], dtype=torch.float64)  # I + X^T X is singular
    cholesky = updated_cholesky(torch.eye(2, dtype=torch.float64), block)
    assert float(cholesky.diagonal().abs().log().sum()) * 2 == pytest.approx(math.log(1 + 4e20), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(block_lists(), REGULARIZATIONS)
def test_gains_are_never_negative_and_sum_to_the_log_determinant(blocks: list[np.ndarray], lam: float) -> None:
    gains = information_gains_along(TokenBlocks.from_sequence(blocks), range(len(blocks)), lam)
    rows = np.concatenate(blocks)
    singular = np.linalg.svd(rows / math.sqrt(lam), compute_uv=False)
    assert (gains >= 0).all()
    assert gains.sum() == pytest.approx(np.log1p(singular**2).sum(), rel=1e-8, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(block_lists(), REGULARIZATIONS, st.randoms(use_true_random=False))
def test_the_total_does_not_depend_on_the_order(blocks: list[np.ndarray], lam: float, random: object) -> None:
    pool = TokenBlocks.from_sequence(blocks)
    order = list(range(len(blocks)))
    total = information_gains_along(pool, order, lam).sum()
    random.shuffle(order)  # type: ignore[attr-defined]
    assert information_gains_along(pool, order, lam).sum() == pytest.approx(total, rel=1e-8, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(block_lists(), REGULARIZATIONS)
def test_a_block_adds_less_to_a_larger_set(blocks: list[np.ndarray], lam: float) -> None:
    pool = TokenBlocks.from_sequence(blocks)
    last = len(blocks) - 1
    later = [information_gains_along(pool, [*range(k), last], lam)[-1] for k in range(last + 1)]
    for smaller, larger in itertools.pairwise(later):
        assert larger <= smaller * (1 + 1e-9) + 1e-12


def test_float32_blocks_give_the_gains_of_float64() -> None:
    values = torch.randn(60, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 40
    offsets = torch.tensor([0, 5, 30, 31, 60])
    exact = information_gains_along(TokenBlocks(values, offsets), range(4))
    single = information_gains_along(TokenBlocks(values.float(), offsets), range(4))
    np.testing.assert_allclose(single, exact, rtol=1e-6)
