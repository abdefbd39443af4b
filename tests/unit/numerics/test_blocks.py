from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, information_gains_along, select


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


def random_blocks(seed: int) -> tuple[TokenBlocks, torch.Tensor]:
    """Five blocks of 0 to 9 tokens in 6 dimensions, and a weight a token, some of them 0."""
    rng = np.random.default_rng(seed)
    offsets = np.array([0, 3, 3, 12, 13, 20])
    weights = rng.uniform(size=20) * (rng.uniform(size=20) > 0.2)
    return TokenBlocks(torch.from_numpy(rng.normal(size=(20, 6))), torch.from_numpy(offsets)), torch.from_numpy(weights)


@pytest.mark.parametrize("regularization", [0.01, 1.0, 50.0])
def test_the_gain_of_weighted_blocks_is_the_log_det_of_weighted_tokens(regularization: float) -> None:
    blocks, weights = random_blocks(0)
    gains = information_gains_along(blocks.weighted(weights), range(5), regularization)
    prior = regularization * np.eye(6)
    information = prior + sum(float(w) * np.outer(x, x) for w, x in zip(weights, blocks.values.numpy(), strict=True))
    expected = np.linalg.slogdet(information)[1] - np.linalg.slogdet(prior)[1]
    assert gains.sum() == pytest.approx(expected, rel=1e-12)


def test_weights_change_what_is_chosen_as_enumeration_does() -> None:
    blocks, weights = random_blocks(1)
    directly = [
        np.linalg.slogdet(np.eye(6) + (block.numpy().T * w.numpy()) @ block.numpy())[1]
        for block, w in zip(blocks, weights.split(blocks.lengths.tolist()), strict=True)
    ]
    selection = select(blocks.weighted(weights), 1)
    assert selection.indices.tolist() == [int(np.argmax(directly))]
    assert selection.gains[0] == pytest.approx(max(directly), rel=1e-9)
    weights[blocks.offsets[selection.indices[0]] : blocks.offsets[selection.indices[0] + 1]] = 0
    assert select(blocks.weighted(weights), 1).indices.tolist() != selection.indices.tolist()


def test_ones_leave_the_blocks_as_they_are_and_zeros_leave_nothing() -> None:
    blocks, _ = random_blocks(2)
    assert torch.equal(blocks.weighted(torch.ones(20)).values, blocks.values)
    assert information_gains_along(blocks.weighted(torch.zeros(20)), range(5)).tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_small_weights_are_not_lost_in_half_precision(dtype: torch.dtype, expected: torch.dtype) -> None:
    blocks = TokenBlocks(torch.full((1, 2), 2.0, dtype=dtype), torch.tensor([0, 1]))
    weighted = blocks.weighted(torch.tensor([1e-16], dtype=torch.float64))
    assert weighted.values.dtype == expected
    torch.testing.assert_close(weighted.values, torch.full((1, 2), 2e-8, dtype=expected))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3), r"shape \(4,\), not \(3,\)"),
        (torch.ones(4, 1), r"shape \(4,\), not \(4, 1\)"),
        (torch.ones(4, dtype=torch.bool), "the weights must hold real numbers"),
        (torch.tensor([1.0, 1.0, -0.5, 1.0]), r"token block 2 has the weight -0\.5 \(its token 0\)"),
        (torch.tensor([1.0, float("nan"), 1.0, 1.0]), r"token block 0 has the weight nan \(its token 1\)"),
        (torch.tensor([1.0, 1.0, 1.0, float("inf")]), r"token block 2 has the weight inf \(its token 1\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: torch.Tensor, message: str) -> None:
    blocks = TokenBlocks(torch.zeros(4, 2), torch.tensor([0, 2, 2, 4]))
    with pytest.raises(InputError, match=message):
        blocks.weighted(weights)
