from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import Selection, TokenBlocks, information_gains_along, select
from fishersft.numerics.mapped import MappedBlocks
from fishersft.numerics.sharded import ShardedBlocks
from fishersft.numerics.two_round import choose_in_shard, deal, merge_choices, select_two_rounds
from tests.unit.numerics.conftest import block_lists


def pool_of(n: int, dim: int = 5, longest: int = 4, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(1, longest + 1), dim)) for _ in range(n)]


def in_shards(blocks: list[np.ndarray], shards: int) -> list[list[np.ndarray]]:
    ends = np.linspace(0, len(blocks), shards + 1).astype(int)
    return [blocks[start:end] for start, end in itertools.pairwise(ends)]


def gain_of(blocks: list[np.ndarray], chosen: Any) -> float:
    return float(information_gains_along(TokenBlocks.from_sequence(blocks), list(chosen)).sum())


def assert_same(one: Selection, other: Selection) -> None:
    assert one.indices.tolist() == other.indices.tolist()
    np.testing.assert_allclose(one.gains, other.gains, rtol=1e-12)
    assert one.tokens.tolist() == other.tokens.tolist()
    assert (one.rule, one.exhausted, one.budget) == (other.rule, other.exhausted, other.budget)


@settings(max_examples=40, deadline=None)
@given(block_lists(), st.sampled_from(["sentences", "tokens"]), st.integers(1, 20))
def test_one_shard_is_select(blocks: list[np.ndarray], unit: Any, budget: int) -> None:
    arguments: dict[str, Any] = {"budget_unit": unit, "device": "cpu"}
    assert_same(select_two_rounds([blocks], budget, **arguments), select(blocks, budget, **arguments))


def test_a_case_worked_by_hand() -> None:
    shards: list[Any] = [
        [[[3.0, 0.0]], [[2.9, 0.0]]],  # both are chosen here: the second adds little to the first
        [[[0.0, 2.0]], [[0.0, 1.0]]],
    ]
    selection = select_two_rounds(shards, budget=2, device="cpu")
    assert selection.indices.tolist() == [0, 2]
    np.testing.assert_allclose(selection.gains, np.log([10, 5]), rtol=1e-12)
    assert not selection.exhausted


def test_the_best_shard_wins_over_a_worse_second_round() -> None:
    """Greedy among all falls for (1, 1), which is nearly as long as both axes together."""
    shards: list[Any] = [[[[4.0, 0.0]], [[0.0, 4.0]]], [[[2.9, 2.9]]]]
    choices = [choose_in_shard(shard, 2, device="cpu") for shard in shards]
    among_all = select([*shards[0], *shards[1]], 2, device="cpu")
    merged = merge_choices(shards, choices, 2, device="cpu")
    assert among_all.indices[0] == 2 and among_all.information_gain < merged.information_gain
    assert merged.indices.tolist() == [0, 1]
    assert merged.evaluations > sum(choice.evaluations for choice in choices if choice)


@settings(max_examples=60, deadline=None)
@given(block_lists(), st.sampled_from(["sentences", "tokens"]), st.integers(1, 8), st.integers(2, 3), st.booleans())
def test_it_is_never_worse_than_the_best_shard_and_certified_by_a_true_bound(
    blocks: list[np.ndarray], unit: Any, budget: int, shards: int, randomised: bool
) -> None:
    arguments: dict[str, Any] = {"budget_unit": unit, "device": "cpu"}
    parts = [
        part if part else TokenBlocks(torch.empty(0, blocks[0].shape[1]), torch.tensor([0]))
        for part in in_shards(blocks, shards)
    ]
    selection = select_two_rounds(parts, budget, randomised=randomised, **arguments)
    if not randomised:
        for choice in (choose_in_shard(part, budget, **arguments) for part in parts):
            if choice is not None:
                assert selection.information_gain >= choice.information_gain * (1 - 1e-6) - 1e-12
    assert selection.information_gain == pytest.approx(gain_of(blocks, selection.indices), rel=1e-6, abs=1e-9)
    assert selection.tokens.tolist() == [len(blocks[i]) for i in selection.indices]
    cost = int(selection.tokens.sum()) if unit == "tokens" else len(selection)
    assert cost <= budget
    filled = [i for i, block in enumerate(blocks) if len(block)]
    optimum = 0.0
    for size in range(min(budget, 3, len(filled)) + 1):  # a part of all subsets: the optimum is not less
        for chosen in itertools.combinations(filled, size):
            if unit == "sentences" or sum(len(blocks[i]) for i in chosen) <= budget:
                optimum = max(optimum, gain_of(blocks, chosen))
    assert selection.certificate is not None
    assert selection.certificate.upper_bound >= max(optimum, selection.information_gain) * (1 - 1e-9)


@pytest.mark.parametrize("method", ["prefix", "frank-wolfe"])
@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_the_certificate_is_of_all_shards_and_by_the_method_asked_for(method: Any, unit: Any) -> None:
    blocks = pool_of(9, dim=3)
    selection = select_two_rounds(in_shards(blocks, 3), 4, budget_unit=unit, certificate=method, device="cpu")
    best = max(
        gain_of(blocks, chosen)
        for size in range(1, 5)
        for chosen in itertools.combinations(range(9), size)
        if unit == "sentences" or sum(len(blocks[i]) for i in chosen) <= 4
    )
    proof = selection.certificate
    assert proof is not None and proof.method == method
    assert best <= proof.upper_bound < 3 * best


def test_the_deal_is_seeded_and_deals_every_block_once() -> None:
    dealt = deal(1000, shards=4, seed=7)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(1000))
    assert all(150 < len(part) < 350 and (np.diff(part) > 0).all() for part in dealt)
    assert [part.tolist() for part in deal(1000, 4, 7)] == [part.tolist() for part in dealt]
    assert [part.tolist() for part in deal(1000, 4, 8)] != [part.tolist() for part in dealt]


def test_randomised_rounds_are_seeded_and_number_blocks_as_the_shards_do() -> None:
    blocks = pool_of(60)
    first, again = (select_two_rounds(in_shards(blocks, 3), 8, randomised=True, seed=3, device="cpu") for _ in range(2))
    assert_same(first, again)
    np.testing.assert_allclose(
        information_gains_along(TokenBlocks.from_sequence(blocks), first.indices), first.gains, rtol=1e-9
    )
    assert first.tokens.tolist() == [len(blocks[i]) for i in first.indices]


def test_a_budget_beyond_the_pool_takes_all_of_it() -> None:
    selection = select_two_rounds(in_shards(pool_of(10), 3), 99, device="cpu")
    assert sorted(selection.indices.tolist()) == list(range(10))
    assert selection.exhausted


def test_progress_goes_on_over_the_rounds() -> None:
    told: list[int] = []
    select_two_rounds(
        in_shards(pool_of(12), 2), 3, device="cpu", on_progress=lambda p: told.append(100 * p.spent // p.spendable)
    )
    assert told == [100 * k // 9 for k in range(1, 10)]


def test_a_sharded_pool_is_its_concatenation() -> None:
    shards = [TokenBlocks.from_sequence(part) for part in in_shards(pool_of(9), 3)]
    shards[1] = TokenBlocks(shards[1].values.float(), shards[1].offsets)
    whole, sharded = TokenBlocks.concatenate(shards), ShardedBlocks(shards)
    some = np.array([8, 0, 4, 5, 1])
    assert (len(sharded), sharded.dim, sharded.dtype) == (9, 5, torch.float64)
    assert torch.equal(sharded.offsets, whole.offsets) and torch.equal(sharded.lengths, whole.lengths)
    assert torch.equal(sharded.rows_of(some), whole.rows_of(some))
    assert all(torch.equal(sharded[i], whole[i]) for i in range(9))
    assert torch.equal(torch.cat([rows for _, rows in sharded.chunks()]), whole.values)
    starts = [start for start, _ in sharded.chunks()]
    assert starts == [int(whole.offsets[first]) for first in (0, 3, 6)]


def test_blocks_of_a_pool_may_be_viewed_as_they_are() -> None:
    pool = TokenBlocks.from_sequence(pool_of(6)).to("cpu")
    view = MappedBlocks(pool, np.array([4, 1]))
    assert (view.dtype, view.dim, len(view)) == (torch.float64, 5, 2)
    assert torch.equal(view[1], pool[1])
    assert torch.equal(torch.cat([rows for _, rows in view.chunks()]), torch.cat([pool[4], pool[1]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select_two_rounds([], 1), "no shards"),
        (lambda: select_two_rounds([[[[1.0]]], [[[1.0, 2.0]]]], 1), "shard 1 has dim 2"),
        (lambda: select_two_rounds([[[[1.0]]]], 0), "budget must be"),
        (lambda: select_two_rounds([[[[1.0]]], [[[float("nan")]]]], 1), "NaN"),
        (lambda: select_two_rounds([np.zeros((1, 0, 3))], 1), "nothing to choose"),
        (lambda: merge_choices([[[[1.0]]]], [], 1), "0 choices for 1 shards"),
        (lambda: ShardedBlocks([[[[1.0]]], [[[float("inf")]]]]).check_finite(), "in shard 1: token block 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
