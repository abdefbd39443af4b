from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import select
from tests.unit.numerics.conditions import costs_of, obeys, random_conditions
from tests.unit.numerics.conftest import block_lists


def best_possible(blocks: list[np.ndarray], asked: dict[str, Any], prior: np.ndarray) -> float:
    """By looking at every set that budget and conditions allow."""
    best = -np.inf
    start = float(np.linalg.slogdet(prior).logabsdet)
    moments = [block.T @ block for block in blocks]
    for size in range(len(blocks) + 1):
        for subset in itertools.combinations(range(len(blocks)), size):
            if obeys(list(subset), blocks, asked):
                information = sum((moments[i] for i in subset), prior)
                best = max(best, float(np.linalg.slogdet(information).logabsdet) - start)
    return best


@settings(max_examples=60, deadline=None)
@given(block_lists(max_blocks=8, max_dim=5), st.sampled_from([0.1, 1.0, 100.0]), st.data())
def test_the_bound_is_never_under_the_best_that_the_conditions_allow(
    blocks: list[np.ndarray], lam: float, data: st.DataObject
) -> None:
    asked = data.draw(random_conditions(blocks))
    options = asked | {"regularization": lam, "certificate": data.draw(st.sampled_from(["prefix", "frank-wolfe"]))}
    dim = blocks[0].shape[1]
    prior = lam * np.eye(dim)
    start = data.draw(st.sampled_from(["nothing", "earlier blocks", "fewer dimensions"]))
    if start == "earlier blocks":
        earlier = np.random.default_rng(len(blocks)).normal(size=(2, dim))
        options["already_selected"] = [earlier]
        prior = prior + earlier.T @ earlier
    elif start == "fewer dimensions":
        options["project_to"] = data.draw(st.integers(1, dim))
    best = best_possible(blocks, asked, prior)
    for algorithm in ("lazy", "naive"):
        selection = select(blocks, **options, algorithm=algorithm, device="cpu")
        proof = selection.certificate
        assert proof is not None
        assert proof.upper_bound >= best * (1 - 1e-9) - 1e-10
        assert selection.information_gain <= best * (1 + 1e-9) + 1e-10
        assert proof.ratio <= 1
        assert proof.information_gain == pytest.approx(selection.information_gain, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", ["prefix", "frank-wolfe"])
@pytest.mark.parametrize("algorithm", ["lazy", "naive"])
@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_where_nothing_is_left_to_choose_the_selection_is_the_best(method: Any, algorithm: Any, unit: Any) -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(3, 4)) for _ in range(6)]
    budget = sum(costs_of(blocks, unit)[:2])
    earlier = [rng.normal(size=(2, 4))]
    selection = select(
        blocks,
        budget,
        budget_unit=unit,
        include=[4, 1],
        already_selected=earlier,
        certificate=method,
        algorithm=algorithm,
    )
    assert sorted(selection.indices.tolist()) == [1, 4]
    assert selection.certificate is not None
    assert selection.certificate.ratio == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("method", ["prefix", "frank-wolfe"])
@pytest.mark.parametrize("algorithm", ["lazy", "naive"])
def test_blocks_that_are_ruled_out_do_not_loosen_the_bound(method: Any, algorithm: Any) -> None:
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(2, 6)) for _ in range(12)]
    distractors = [rng.normal(size=(2, 6)) * 100 for _ in range(5)]
    alone = select(blocks, 4, include=[3], certificate=method, algorithm=algorithm).certificate
    among = select(
        blocks + distractors, 4, include=[3], exclude=range(12, 17), certificate=method, algorithm=algorithm
    ).certificate  # type: ignore[arg-type]
    assert alone is not None
    assert among is not None
    assert among.upper_bound == pytest.approx(alone.upper_bound, rel=1e-3)


def test_the_dual_bound_is_the_tighter_one_under_conditions_too() -> None:
    rng = np.random.default_rng(2)
    blocks = [rng.normal(size=(rng.integers(1, 5), 12)) for _ in range(200)]
    options: Any = {"include": [7, 8], "exclude": [0, 1, 2], "already_selected": blocks[:3]}
    prefix, dual = (select(blocks, 20, certificate=name, **options).certificate for name in ("prefix", "frank-wolfe"))
    assert prefix is not None
    assert dual is not None
    assert dual.upper_bound < prefix.upper_bound
    assert 0.8 < prefix.ratio < dual.ratio <= 1
    assert dual.method == "frank-wolfe"


def test_the_proof_of_a_reference_does_not_rest_on_its_dense_differences() -> None:
    tiny = select([[[0.02]]], 1, include=[0], regularization=1e8, algorithm="naive").certificate
    assert tiny is not None and tiny.upper_bound >= np.log1p(0.02**2 / 1e8)


def test_what_a_dense_log_determinant_cannot_tell_is_an_error_of_the_references_alone() -> None:
    pool = [[[1e6, 5e5]], [[1.0, 1.0]], [[291.0, 104.0]]]
    arguments = {"exclude": [1], "already_selected": [[[3.2e10, 1.6e10]]]}
    for algorithm in ("naive", "paper"):
        with pytest.raises(InputError, match="too ill-conditioned for a dense log determinant"):
            select(pool, 3, algorithm=algorithm, **arguments)
    assert sorted(select(pool, 3, **arguments).indices.tolist()) == [0, 2]


def test_where_rounding_blurs_the_bounds_that_a_run_brings_along_a_proof_is_made_afterwards() -> None:
    nothing = select([np.zeros((2, 3))] * 4, 2).certificate
    assert nothing is not None and nothing.ratio == 1.0
    huge = select([np.diag([1e19, 1.0]), np.diag([1.0, 1e19]), np.eye(2)], 2).certificate
    assert huge is not None and huge.ratio > 0.5
