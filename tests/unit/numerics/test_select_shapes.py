"""`select` over the dims and dtypes that it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.numerics import TokenBlocks, information_gains_along, select


def gaussian_pool(dim: int, number: int, longest: int, dtype: torch.dtype = torch.float64) -> TokenBlocks:
    rng = np.random.default_rng(dim)
    lengths = torch.from_numpy(rng.integers(0, longest + 1, number))
    values = torch.from_numpy(rng.normal(size=(int(lengths.sum()), dim))).to(dtype)
    return TokenBlocks(values, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))


@pytest.mark.parametrize("dim", [1, 2, 3, 31, 64, 200])
def test_lazy_agrees_with_the_definition_in_any_dim(dim: int) -> None:
    pool = gaussian_pool(dim, 14, 9)
    lazy, naive = (select(pool, 6, algorithm=name, device="cpu") for name in ("lazy", "naive"))  # type: ignore[arg-type]
    assert lazy.indices.tolist() == naive.indices.tolist()
    np.testing.assert_allclose(lazy.gains, naive.gains, rtol=1e-8)


def test_dim_8192() -> None:
    pool = gaussian_pool(8192, 6, 3, torch.bfloat16)
    selection = select(pool, 2, regularization=100.0, device="cpu")
    # log det(I + X^T X / lambda) = log det(I + X X^T / lambda), as small as there are tokens
    rows = pool.values.double()
    left = list(np.flatnonzero(pool.lengths.numpy()))
    chosen = np.zeros((0, 8192))
    for index, gain in zip(selection.indices, selection.gains, strict=True):
        gains = {}
        for i in left:
            both = np.concatenate([chosen, rows[pool.offsets[i] : pool.offsets[i + 1]].numpy()])
            gains[i] = sum(
                np.linalg.slogdet(np.eye(len(x)) + x @ x.T / 100)[1] * sign for x, sign in ((both, 1), (chosen, -1))
            )
        assert index == max(gains, key=lambda i: gains[i])
        assert gain == pytest.approx(gains[index], rel=1e-9)
        chosen = np.concatenate([chosen, pool[int(index)].double().numpy()])
        left.remove(index)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("dim", "longest"), [(1, 4), (8, 1), (8, 20), (40, 12)])
def test_narrow_embeddings_give_the_picks_of_the_same_values_in_float64(
    dtype: torch.dtype, dim: int, longest: int
) -> None:
    narrow = gaussian_pool(dim, 150, longest, dtype)
    wide = TokenBlocks(narrow.values.double(), narrow.offsets)
    for unit, budget in (("sentences", 40), ("tokens", 100)):
        few, same = (select(pool, budget, budget_unit=unit, device="cpu") for pool in (narrow, wide))  # type: ignore[arg-type]
        assert few.indices.tolist() == same.indices.tolist()
        np.testing.assert_allclose(few.gains, same.gains, rtol=1e-12)  # one of them may be of triangles
        np.testing.assert_allclose(few.gains, information_gains_along(wide, few.indices), rtol=1e-9)
