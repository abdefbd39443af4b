from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks


def test_blocks_are_views_into_the_values() -> None:
    values = torch.arange(6.0).reshape(3, 2)
    blocks = TokenBlocks(values, torch.tensor([0, 2, 2, 3]))
    assert len(blocks) == 3
    assert blocks.dim == 2
    assert blocks.lengths.tolist() == [2, 0, 1]
    assert blocks.lengths.dtype == torch.int64
    assert blocks[0].data_ptr() == values.data_ptr()
    assert blocks[-1].tolist() == [[4.0, 5.0]]
    assert [block.shape[0] for block in blocks] == [2, 0, 1]
    with pytest.raises(IndexError):
        blocks[3]


def test_arrays_tensors_and_lists_stack_to_the_widest_dtype() -> None:
    blocks = TokenBlocks.from_sequence(
        [np.ones((2, 3), np.float16), torch.ones(1, 3, dtype=torch.float32), np.zeros((0, 3), np.float32)]
    )
    assert blocks.values.dtype == torch.float32
    assert blocks.offsets.tolist() == [0, 2, 3, 3]
    assert TokenBlocks.from_sequence([[[1, 2]], [[3, 4]]]).values.dtype == torch.float64


def test_concatenating_keeps_the_order_of_blocks() -> None:
    one = TokenBlocks(torch.zeros(2, 3), torch.tensor([0, 1, 2]))
    two = TokenBlocks(torch.ones(3, 3), torch.tensor([0, 3]))
    both = TokenBlocks.concatenate([one, two])
    assert both.offsets.tolist() == [0, 1, 2, 5]
    assert both[2].tolist() == [[1.0] * 3] * 3
    with pytest.raises(InputError, match="same model"):
        TokenBlocks.concatenate([one, TokenBlocks(torch.zeros(1, 4), torch.tensor([0, 1]))])
    with pytest.raises(InputError, match="at least one part"):
        TokenBlocks.concatenate([])


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (torch.zeros(3), torch.tensor([0, 3]), r"shape \(tokens, dim\), not \(3,\)"),
        (torch.zeros(3, 0), torch.tensor([0, 3]), "shape"),
        (torch.zeros(3, 2, dtype=torch.bool), torch.tensor([0, 3]), "real numbers"),
        (torch.zeros(3, 2), torch.tensor([[0, 3]]), "offsets of shape"),
        (torch.zeros(3, 2), torch.tensor([0.0, 3.0]), "int64 offsets"),
        (torch.zeros(3, 2), torch.tensor([1, 3]), "from 1 to 3"),
        (torch.zeros(3, 2), torch.tensor([0, 2]), "number of tokens, 3"),
        (torch.zeros(3, 2), torch.tensor([0, 3, 2, 3]), "fall in between"),
    ],
)
def test_values_and_offsets_that_do_not_fit_are_refused(
    values: torch.Tensor, offsets: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TokenBlocks(values, offsets)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no token blocks"),
        ([np.zeros(768)], r"reshape it to \(1, 768\)"),
        ([np.zeros((2, 576)), np.zeros((1, 768))], "token block 1 has dim 768, block 0 has 576"),
        ([np.zeros((2, 2, 2))], r"token block 0 has shape \(2, 2, 2\)"),
        ([[[1.0, 2.0], [3.0]]], "token block 0 must be"),
        ([[["a"]]], "token block 0 must be"),
    ],
)
def test_sequences_that_are_not_blocks_are_refused(blocks: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TokenBlocks.from_sequence(blocks)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e200])
def test_check_finite_names_the_first_bad_block_and_token(bad: float) -> None:
    values = torch.zeros(6, 2, dtype=torch.float64)
    values[3, 1] = bad
    values[5, 0] = bad
    blocks = TokenBlocks(values, torch.tensor([0, 2, 2, 6]))
    with pytest.raises(InputError, match=r"token block 2 holds NaN or infinity.*its token 1"):
        blocks.check_finite()


def test_check_finite_looks_at_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fishersft.numerics.blocks._CHUNK_ELEMENTS", 4)
    values = torch.full((7, 2), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16)
    TokenBlocks(values, torch.arange(8)).check_finite()
    values[6, 0] = float("nan")
    with pytest.raises(InputError, match="token block 6"):
        TokenBlocks(values, torch.arange(8)).check_finite()
