"""A block's spectrum tells its gain before anything is chosen, for every lambda, and never less."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.information import block_gain
from fishersft.numerics.spectra import first_gains, squared_singular_values


def pool(dtype: torch.dtype = torch.float32) -> TokenBlocks:
    """40 blocks of 0 to 12 tokens, dim 8, half of their energy in one direction."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 13, (40,), generator=generator)
    values = torch.randn(int(lengths.sum()), 8, generator=generator) + 20 * torch.ones(8)
    return TokenBlocks(values.to(dtype), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("regularization", [1e-6, 1.0, 1e4])
def test_first_gains_are_those_of_an_empty_selection_and_never_less(dtype: torch.dtype, regularization: float) -> None:
    blocks = pool(dtype)
    bounds = first_gains(squared_singular_values(blocks), blocks.lengths, regularization)
    exact = [block_gain(torch.eye(8, dtype=torch.float64), block.double() / regularization**0.5) for block in blocks]
    assert (bounds >= exact).all()
    assert bounds == pytest.approx(exact, rel=1e-5, abs=1e-5)


def test_a_spectrum_has_an_entry_a_token_and_zeros_beyond_dim() -> None:
    blocks = TokenBlocks(torch.eye(2).repeat(2, 1), torch.tensor([0, 0, 4]))
    assert squared_singular_values(blocks).tolist() == pytest.approx([2.0, 2.0, 0.0, 0.0], rel=1e-5)


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
@pytest.mark.parametrize("earlier", [False, True])
def test_known_first_gains_spare_looks_and_change_no_pick(unit: str, earlier: bool) -> None:
    blocks = pool()
    bounds = first_gains(squared_singular_values(blocks), blocks.lengths, 1.0)
    known = TokenBlocks(torch.eye(8), torch.tensor([0, 8])) if earlier else None
    without = select(blocks, 6, budget_unit=unit, already_selected=known)  # type: ignore[arg-type]
    with_them = select(blocks, 6, budget_unit=unit, already_selected=known, first_gains=bounds)  # type: ignore[arg-type]
    assert with_them.indices.tolist() == without.indices.tolist()
    assert with_them.evaluations < without.evaluations


@pytest.mark.parametrize("wrong", [np.ones(3), np.full(40, -1.0), np.full(40, np.nan), np.array(["a"] * 40)])
def test_what_is_no_bound_a_block_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="first_gains must be 40 numbers"):
        select(pool(), 2, first_gains=wrong)
