from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, certificates, prefix_bound, projection, select
from fishersft.numerics.projection import (
    optimum_loss_bound,
    principal_basis,
    projected,
    projection_loss,
)
from tests.unit.numerics.conftest import block_lists

REGULARIZATIONS = st.sampled_from([1e-6, 1e-2, 1.0, 1e4, 1e8])


def gain_of(pool: TokenBlocks, chosen: tuple[int, ...], lam: float) -> float:
    rows = torch.cat([pool[i] for i in chosen] or [pool[0][:0]]).double() / math.sqrt(lam)
    return float(torch.linalg.svdvals(rows).square().log1p().sum())


def random_basis(dim: int, dims: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dims, generator=generator, dtype=torch.float64)).Q


def gaussian(seed: int = 0, dim: int = 6, blocks: int = 12, longest: int = 9) -> TokenBlocks:
    rng = np.random.default_rng(seed)
    return TokenBlocks.from_sequence([rng.normal(size=(rng.integers(1, longest + 1), dim)) for _ in range(blocks)])


def test_the_basis_holds_the_directions_of_most_energy_and_the_mean_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_CHUNK_ELEMENTS", 30)  # seven rows
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 4)) * [1.0, 0.1, 3.0, 0.1] + [0.0, 10.0, 0.0, 0.0]
    pool = TokenBlocks(torch.from_numpy(rows).float(), torch.tensor([0, 20, 50]))
    basis = principal_basis(pool, 3)
    assert (basis.dtype, tuple(basis.shape)) == (torch.float64, (4, 3))
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=torch.float64))
    assert basis.abs().argmax(0).tolist() == [1, 2, 0]
    _, _, right = np.linalg.svd(pool.values.double().numpy())
    np.testing.assert_allclose(np.abs(basis.T.numpy()), np.abs(right[:3]), atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_projected_blocks_are_the_products_in_a_dtype_no_narrower(
    dtype: torch.dtype, becomes: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_CHUNK_ELEMENTS", 30)
    pool = gaussian()
    pool, basis = TokenBlocks(pool.values.to(dtype), pool.offsets), random_basis(6, 2, 1)
    small = projected(pool, basis)
    assert (small.values.dtype, small.dim) == (becomes, 2)
    assert torch.equal(small.offsets, pool.offsets)
    assert torch.equal(small.values, (pool.values.double() @ basis).to(becomes))


@settings(max_examples=150, deadline=None)
@given(block_lists(), REGULARIZATIONS, st.booleans(), st.data())
def test_no_selection_loses_more_than_its_bound(
    blocks: list[np.ndarray], lam: float, principal: bool, data: st.DataObject
) -> None:
    pool = TokenBlocks.from_sequence(blocks)
    dims = data.draw(st.integers(1, pool.dim))
    basis = principal_basis(pool, dims) if principal else random_basis(pool.dim, dims, 3)
    chosen = tuple(data.draw(st.lists(st.integers(0, len(pool) - 1), unique=True)))
    loss = projection_loss(pool, chosen, basis, lam)
    before, after = gain_of(pool, chosen, lam), gain_of(projected(pool, basis), chosen, lam)
    rounding = 1e-9 * before + 1e-12
    assert after - rounding <= before <= after + loss.bound_nats + rounding
    assert loss.bound_nats <= loss.trace_bound_nats * (1 + 1e-9) + 1e-12
    assert 0 <= loss.energy_kept <= 1


def test_rows_within_the_subspace_lose_nothing() -> None:
    basis = random_basis(7, 3, 0)
    inner = gaussian(dim=3)
    pool = TokenBlocks(inner.values @ basis.T, inner.offsets)
    loss = projection_loss(pool, range(len(pool)), basis)
    assert loss.bound_nats < 1e-25
    assert loss.trace_bound_nats < 1e-25
    assert loss.energy_kept == pytest.approx(1.0, abs=1e-15)
    assert optimum_loss_bound(pool, basis, len(pool)) < 1e-11


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
def test_keeping_all_dimensions_loses_nothing(lam: float) -> None:
    pool = gaussian()
    basis = principal_basis(pool, pool.dim)
    loss = projection_loss(pool, [0, 3, 5], basis, lam)
    assert loss.bound_nats < 1e-24
    assert loss.energy_kept == pytest.approx(1.0, abs=1e-15)
    full, rotated = (select(some, 4, regularization=lam, device="cpu") for some in (pool, projected(pool, basis)))
    assert rotated.indices.tolist() == full.indices.tolist()
    assert optimum_loss_bound(pool, basis, 4, regularization=lam) < 1e-11 / math.sqrt(lam)


def test_a_case_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_CHUNK_ELEMENTS", 1)  # a block at a time
    pool = TokenBlocks.from_sequence(
        [[[3.0, 0.0, 2.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]], [[4.0, 0.0, 4.0]], [[0.0, 0.0, 0.0]]]
    )
    basis = torch.eye(3, dtype=torch.float64)[:, :1]
    loss = projection_loss(pool, [0, 1], basis, regularization=2.0)
    # M_22 = diag(2, 4) of the directions 1 and 2
    assert loss.bound_nats == pytest.approx(math.log(1 + 2 / 2) + math.log(1 + 4 / 2), rel=1e-14)
    assert loss.trace_bound_nats == pytest.approx(6 / 2)
    assert loss.energy_kept == pytest.approx(9 / 15)
    # The discarded traces are 5, 1, 16 and 0, in two directions.
    assert optimum_loss_bound(pool, basis, 1, regularization=2.0) == pytest.approx(2 * math.log1p(16 / 2 / 2))
    assert optimum_loss_bound(pool, basis, 2, regularization=2.0) == pytest.approx(2 * math.log1p(21 / 2 / 2))
    # A token can have energy in one direction only: 16 of the third block.
    assert optimum_loss_bound(pool, basis, 1, "tokens", regularization=2.0) == pytest.approx(math.log1p(16 / 2))
    # The selection of nothing and of a block without energy lose nothing.
    for nothing in ([], [3]):
        loss = projection_loss(pool, nothing, basis)
        assert (loss.bound_nats, loss.trace_bound_nats, loss.energy_kept) == (0.0, 0.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(
    block_lists(max_blocks=6, max_dim=6),
    st.sampled_from([torch.float32, torch.float64]),
    REGULARIZATIONS,
    st.sampled_from(["sentences", "tokens"]),
    st.data(),
)
def test_a_certificate_of_the_projection_carries_over_to_the_true_optimum(
    blocks: list[np.ndarray], dtype: torch.dtype, lam: float, unit: Any, data: st.DataObject
) -> None:
    pool = TokenBlocks.from_sequence(blocks)
    pool = TokenBlocks(pool.values.to(dtype), pool.offsets)
    basis = principal_basis(pool, data.draw(st.integers(1, pool.dim)))
    budget = data.draw(st.integers(1, 8))
    lengths = pool.lengths.tolist()
    small = projected(pool, basis)
    loss = optimum_loss_bound(pool, basis, budget, unit, lam)

    optimum = 0.0
    for size in range(len(pool) + 1):
        for subset in itertools.combinations(range(len(pool)), size):
            if (sum(lengths[i] for i in subset) if unit == "tokens" else size) <= budget:
                gain = gain_of(pool, subset, lam)
                optimum = max(optimum, gain)
                assert gain - gain_of(small, subset, lam) <= loss + 1e-13 * (1 + gain)
                assert projection_loss(pool, subset, basis, lam).bound_nats <= loss * (1 + 1e-12) + 1e-24

    selected = select(small, budget, budget_unit=unit, regularization=lam, device="cpu").indices
    bound = prefix_bound(small, selected, budget, budget_unit=unit, regularization=lam).upper_bound
    assert optimum <= bound + loss + 1e-13 * optimum


def test_the_bound_on_the_optimum_is_never_over_the_sum_of_the_largest_traces() -> None:
    pool, basis = gaussian(dim=8, blocks=40), random_basis(8, 3, 2)
    discarded = (pool.values - pool.values @ basis @ basis.T).square().sum(1)
    traces = [float(discarded[start:stop].sum()) for start, stop in itertools.pairwise(pool.offsets.tolist())]
    for budget in (1, 5, 40):
        most = sum(sorted(traces, reverse=True)[:budget])
        assert 0 < optimum_loss_bound(pool, basis, budget) < most
        assert optimum_loss_bound(pool, basis, budget, regularization=1e6) == pytest.approx(most / 1e6, rel=1e-3)


@pytest.mark.parametrize("dims", [0, 7, -1, 2.0, True, None])
def test_dims_out_of_range_are_refused(dims: Any) -> None:
    with pytest.raises(InputError, match=f"from 1 to 6, not {dims!r}"):
        principal_basis(gaussian(), dims)


def test_bad_input_is_named() -> None:
    pool, basis = gaussian(), random_basis(6, 2, 0)
    with pytest.raises(InputError, match="no token block holds a token"):
        principal_basis(TokenBlocks(torch.zeros(0, 6), torch.tensor([0, 0])), 2)
    with pytest.raises(InputError, match="token block 1 holds NaN"):
        principal_basis(TokenBlocks.from_sequence([[[1.0]], [[math.nan]]]), 1)
    for uses in (projected, lambda p, b: projection_loss(p, [0], b), lambda p, b: optimum_loss_bound(p, b, 1)):
        with pytest.raises(InputError, match=r"shape \(6, p\) with p from 1 to 6, not \(5, 2\)"):
            uses(pool, basis[:5])
        with pytest.raises(InputError, match="must be orthonormal"):
            uses(pool, 2 * basis)
        with pytest.raises(InputError, match="must be orthonormal"):
            uses(pool, basis * torch.nan)
    with pytest.raises(InputError, match="names block 12"):
        projection_loss(pool, [12], basis)
