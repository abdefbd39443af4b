from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, information_gains_along, select
from fishersft.numerics.prior import absolute_regularization, start_factor
from tests.unit.numerics.conftest import block_lists

ALGORITHMS: list[Any] = ["naive", "paper", "lazy"]


def moment_of(blocks: list[np.ndarray], indices: list[int]) -> np.ndarray:
    return sum((blocks[i].T @ blocks[i] for i in indices), np.zeros((blocks[0].shape[1],) * 2))


@settings(max_examples=40, deadline=None)
@given(block_lists(scales=(1.0,), permuted=False), st.sampled_from([0.1, 1.0, 100.0]), st.integers(0, 5), st.data())
def test_an_earlier_selection_is_continued_as_one_longer_run(
    blocks: list[np.ndarray], lam: float, first: int, data: st.DataObject
) -> None:
    whole = select(blocks, len(blocks), regularization=lam, device="cpu")
    earlier = whole.indices[:first].tolist()
    chosen = [blocks[i] for i in earlier] or [np.zeros((0, blocks[0].shape[1]))]
    algorithm = data.draw(st.sampled_from(ALGORITHMS))
    cut = data.draw(st.integers(0, len(earlier)))  # part of it given as blocks, the rest as its information
    options: Any = data.draw(
        st.sampled_from(
            [
                {"already_selected": chosen},
                {"initial_information": moment_of(blocks, earlier)},
                {
                    "already_selected": TokenBlocks.from_sequence(chosen[:cut] or [chosen[0][:0]]),
                    "initial_information": torch.from_numpy(moment_of(blocks, earlier[cut:])),
                },
            ]
        )
    )
    rest = select(
        blocks, len(blocks), exclude=earlier, regularization=lam, algorithm=algorithm, device="cpu", **options
    )
    assert rest.indices.tolist() == whole.indices[len(earlier) :].tolist()
    np.testing.assert_allclose(rest.gains, whole.gains[len(earlier) :], rtol=1e-9, atol=1e-11)
    assert rest.information_gain == pytest.approx(whole.gains[len(earlier) :].sum(), rel=1e-9, abs=1e-11)


def test_the_start_is_the_factor_of_all_that_is_known() -> None:
    rng = np.random.default_rng(0)
    pool = TokenBlocks.from_sequence([rng.normal(size=(n, 5)).astype(np.float32) for n in (3, 0, 9)])
    given_ = rng.normal(size=(2, 5))
    cholesky = start_factor(5, 0.7, pool, given_.T @ given_)
    assert cholesky is not None
    assert cholesky.dtype == torch.float64
    assert torch.equal(cholesky, cholesky.tril())
    rows = pool.values.double()
    expected = 0.7 * torch.eye(5, dtype=torch.float64) + rows.T @ rows + torch.from_numpy(given_.T @ given_)
    torch.testing.assert_close(0.7 * cholesky @ cholesky.T, expected, rtol=1e-12, atol=1e-12)
    assert start_factor(5, 0.7, None, None) is None


def test_information_of_huge_size_keeps_what_the_prior_is_in_the_other_directions() -> None:
    cholesky = start_factor(3, 1e-6, None, np.diag([1e12, 0.0, 0.0]))
    assert cholesky is not None
    np.testing.assert_allclose(np.linalg.eigvalsh((cholesky @ cholesky.T).numpy())[:2], 1.0, rtol=1e-12)
    blocks = [[[1.0, 0.0, 0.0]], [[0.0, 1e-3, 0.0]]]
    selection = select(blocks, 2, regularization=1e-6, initial_information=np.diag([1e12, 0.0, 0.0]))
    assert selection.indices.tolist() == [1, 0]
    np.testing.assert_allclose(selection.gains, [np.log(2), 1e-12], rtol=1e-6)


def test_rounding_in_the_information_is_forgiven() -> None:
    rows = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    noisy = rows.T @ rows  # of rank 2 in float32: eigenvalues a little under 0, and not quite symmetric
    noisy[0, 1] *= 1 + 3e-7
    assert len(select([np.eye(6)], 1, initial_information=noisy)) == 1


@settings(max_examples=40, deadline=None)
@given(block_lists(scales=(1.0,), permuted=False), st.floats(0.01, 10), st.sampled_from([1e-3, 1.0, 1e3]))
def test_a_share_of_the_mean_token_energy_is_that_number_and_moves_with_the_scale(
    blocks: list[np.ndarray], share: float, scale: float
) -> None:
    rows = np.concatenate(blocks)
    mean = float((rows**2).sum(1).mean())
    if mean == 0:
        with pytest.raises(InputError, match="all embeddings are zero"):
            select(blocks, 1, regularization=share, regularization_unit="mean token energy")
        return
    relative = select(blocks, 5, regularization=share, regularization_unit="mean token energy")
    assert relative.regularization == pytest.approx(share * mean, rel=1e-12)
    absolute = select(blocks, 5, regularization=relative.regularization)
    assert relative.indices.tolist() == absolute.indices.tolist()
    assert relative.gains.tolist() == absolute.gains.tolist()
    scaled = [block * scale for block in blocks]
    moved = select(scaled, 5, regularization=share, regularization_unit="mean token energy")
    assert moved.regularization == pytest.approx(relative.regularization * scale**2, rel=1e-9)
    assert moved.indices.tolist() == relative.indices.tolist()
    np.testing.assert_allclose(moved.gains, relative.gains, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_energy_of_narrow_embeddings_is_summed_in_float64(dtype: torch.dtype) -> None:
    values = (torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    pool = TokenBlocks(values, torch.tensor([0, 100, 500]))
    expected = float(values.double().square().sum(1).mean())
    assert absolute_regularization(pool, 2.0, "mean token energy") == pytest.approx(2 * expected, rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"initial_information": [[1.0, 0.5], [0.0, 1.0]]}, "must be a finite, symmetric matrix"),
        ({"initial_information": [[1.0, 0.0], [0.0, np.nan]]}, "must be a finite, symmetric matrix"),
        ({"initial_information": [[np.inf, 0.0], [0.0, 1.0]]}, "must be a finite, symmetric matrix"),
        ({"initial_information": [[1.0, 2.0], [2.0, 1.0]]}, "positive semidefinite; its least eigenvalue is -1"),
        ({"initial_information": np.eye(3)}, r"must be of shape \(2, 2\), not \(3, 3\)"),
        ({"initial_information": np.ones(2)}, r"must be of shape \(2, 2\), not \(2,\)"),
        ({"already_selected": [np.eye(3)]}, "has dim 3, the pool has 2"),
        ({"already_selected": [[[1.0, np.nan]]]}, "token block 0 holds NaN"),
        ({"already_selected": []}, "no token blocks"),
        ({"regularization_unit": "share"}, "absolute, mean token energy, not 'share'"),
    ],
)
def test_a_bad_prior_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select([np.eye(2), np.eye(2)], 1, **changed)


def test_gains_after_an_earlier_selection_are_those_along_both() -> None:
    rng = np.random.default_rng(2)
    blocks = [rng.normal(size=(rng.integers(1, 12), 8)) for _ in range(60)]
    rest = select(blocks, 20, already_selected=blocks[:10], exclude=range(10))  # type: ignore[arg-type]
    along = information_gains_along(TokenBlocks.from_sequence(blocks), [*range(10), *rest.indices])
    np.testing.assert_allclose(rest.gains, along[10:], rtol=1e-9)
