"""A block with more tokens than dimensions is its triangle: the same picks, gains and proofs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.prior import absolute_regularization
from fishersft.numerics.triangles import triangular


def pool_of(seed: int, dtype: torch.dtype = torch.float64, sentences: int = 20, dim: int = 4) -> TokenBlocks:
    """Sentences of 0 to 39 tokens, some of them copies, in few directions with more energy than in others."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 40, sentences)
    lengths[0] = 39
    blocks = [torch.from_numpy(rng.normal(size=(n, dim)) / (1 + np.arange(dim))).to(dtype) for n in lengths]
    blocks[sentences // 2] = blocks[0]
    return TokenBlocks.from_sequence(blocks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_triangle_has_the_second_moment_of_its_block_and_counts_its_tokens(dtype: torch.dtype) -> None:
    blocks = pool_of(0, dtype)
    triangles = triangular(blocks)
    assert triangles.lengths.tolist() == blocks.lengths.tolist()
    assert triangles.offsets.diff().tolist() == [min(n, 4) for n in blocks.lengths.tolist()]
    for block, triangle in zip(blocks, triangles, strict=True):
        moment = block.double().T @ block.double()
        assert torch.allclose(triangle.T @ triangle, moment, rtol=1e-13, atol=1e-13)


def test_blocks_that_triangles_would_not_make_smaller_stay_as_they_are() -> None:
    few = TokenBlocks(torch.ones(6, 4), torch.tensor([0, 6]))  # 4 x 4 in float64 is more than 6 x 4 in float32
    assert triangular(few) is few


@settings(max_examples=25)
@given(
    seed=st.integers(0, 50),
    dim=st.integers(1, 4),
    budget_unit=st.sampled_from(["sentences", "tokens"]),
    criterion=st.sampled_from(["information", "v-optimal"]),
    weighted=st.booleans(),
    conditions=st.booleans(),
)
def test_picks_gains_and_tokens_are_those_that_the_reference_finds_with_tokens(
    seed: int, dim: int, budget_unit: str, criterion: str, weighted: bool, conditions: bool
) -> None:
    pool = pool_of(seed, torch.float32, dim=dim)
    if weighted:
        pool = pool.weighted(torch.rand(len(pool.values), generator=torch.Generator().manual_seed(seed)))
    arguments = {"budget_unit": budget_unit, "criterion": criterion, "regularization": 0.5}
    if criterion == "v-optimal":
        arguments["target"] = pool_of(seed + 1, torch.float32, dim=dim)
    if conditions:
        included = int(np.flatnonzero(pool.lengths.numpy())[1])
        arguments |= {"include": [included], "exclude": [0], "groups": [i % 3 for i in range(len(pool))]}
        arguments |= {"quotas": {0: 3}, "already_selected": pool_of(seed + 2, dim=dim)}
    budget = 200 if budget_unit == "tokens" else 8
    with_tokens = select(pool, budget, algorithm="naive", **arguments)
    with_triangles = select(pool, budget, **arguments)
    assert with_triangles.indices.tolist() == with_tokens.indices.tolist()
    assert with_triangles.tokens.tolist() == with_tokens.tokens.tolist()
    np.testing.assert_allclose(with_triangles.gains, with_tokens.gains, rtol=1e-9)
    if with_triangles.certificate is not None:
        assert with_triangles.certificate.upper_bound >= with_triangles.information_gain


def test_lambda_as_a_share_of_the_energy_and_a_target_go_by_tokens_not_by_rows() -> None:
    pool = pool_of(3)
    triangles = triangular(pool)
    shared = absolute_regularization(triangles, 0.1, "mean token energy")
    assert shared == pytest.approx(0.1 * float(pool.values.square().sum()) / len(pool.values), rel=1e-12)
    by_tokens = select(pool, 5, criterion="v-optimal", target=pool, algorithm="naive")
    by_triangles = select(triangles, 5, criterion="v-optimal", target=triangles)
    np.testing.assert_allclose(by_triangles.gains, by_tokens.gains, rtol=1e-9)


def test_triangles_put_together_still_count_tokens() -> None:
    both = TokenBlocks.concatenate([triangular(pool_of(4)), pool_of(5)])
    assert both.lengths.tolist() == [*pool_of(4).lengths.tolist(), *pool_of(5).lengths.tolist()]


@pytest.mark.parametrize("tokens", [torch.tensor([3]), torch.tensor([1, 2])])
def test_fewer_tokens_than_rows_or_another_number_of_blocks_are_refused(tokens: torch.Tensor) -> None:
    with pytest.raises(InputError, match="none under the rows"):
        TokenBlocks(torch.eye(4), torch.tensor([0, 4]), tokens)
