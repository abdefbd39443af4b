from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.numerics import TokenBlocks
from fishersft.numerics.twins import Twins, fingerprints
from tests.unit.numerics.conftest import block_lists

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def prints_of(blocks: list[list[list[float]]], dtype: torch.dtype = torch.float64) -> list[int]:
    return fingerprints(TokenBlocks.from_sequence([torch.tensor(block, dtype=dtype) for block in blocks])).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_blocks_have_equal_fingerprints_wherever_they_stand(dtype: torch.dtype) -> None:
    block, other = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    pool = TokenBlocks.from_sequence([block, other[:0], other, block, other[:2], other[:0], other])
    prints = fingerprints(pool).tolist()
    assert (prints[0], prints[1], prints[2]) == (prints[3], prints[5], prints[6])
    assert len(set(prints)) == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_rows_and_of_columns_counts(dtype: torch.dtype) -> None:
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    permuted = [list(order) for order in itertools.permutations(rows)]
    turned = [[list(row) for row in zip(*order, strict=True)] for order in permuted]
    assert len(set(prints_of(permuted + turned, dtype))) == 12


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_negative_zero_is_another_value(dtype: torch.dtype) -> None:
    assert len(set(prints_of([[[0.0, 0.0]], [[-0.0, 0.0]], [[0.0, -0.0]], [[-0.0, -0.0]]], dtype))) == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros_count_by_their_number(dtype: torch.dtype) -> None:
    assert len(set(prints_of([[[0.0, 0.0]] * rows for rows in range(1, 9)], dtype))) == 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_integers_whose_bits_are_nearly_all_zero_are_told_apart(dtype: torch.dtype) -> None:
    """Signs, powers of two and counts differ in their highest bits only."""
    values = [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    blocks = [[list(row)] for row in itertools.product(values, repeat=4)]
    assert len(set(prints_of(blocks, dtype))) == len(blocks)


@settings(max_examples=100, deadline=None)
@given(block_lists(max_blocks=14), st.sampled_from(DTYPES), st.booleans(), st.data())
def test_candidates_are_the_lowest_open_block_of_each_kind(
    blocks: list[np.ndarray], dtype: torch.dtype, colliding: bool, data: st.DataObject
) -> None:
    """Also where fingerprints of different blocks collide."""
    pool = TokenBlocks.from_sequence([torch.from_numpy(block).to(dtype) for block in blocks])
    prints = np.zeros(len(pool), dtype=np.int64) if colliding else fingerprints(pool)
    twins = Twins(pool, prints)

    def same(i: int, j: int) -> bool:
        return pool[i].double().numpy().tobytes() == pool[j].double().numpy().tobytes()

    open_ = np.array(data.draw(st.lists(st.booleans(), min_size=len(pool), max_size=len(pool))))
    expected = [bool(open_[i]) and not any(open_[j] and same(i, j) for j in range(i)) for i in range(len(pool))]
    before = open_.copy()
    assert twins.candidates(open_).tolist() == expected
    assert (open_ == before).all()
    assert twins.original.tolist() == [min(j for j in range(i + 1) if same(i, j)) for i in range(len(pool))]
