from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import select
from fishersft.numerics.information import block_gain, updated_cholesky
from tests.unit.numerics.conditions import costs_of, obeys, random_conditions
from tests.unit.numerics.conftest import block_lists

ALGORITHMS: list[Any] = ["naive", "paper", "lazy"]


def greedy_by_definition(blocks: list[np.ndarray], asked: dict[str, Any], rule: str) -> list[int]:
    """One block at a time: of all that may still be added, the one with most of what the rule asks for."""
    cholesky = torch.eye(blocks[0].shape[1], dtype=torch.float64)
    costs, chosen, waiting = costs_of(blocks, asked["budget_unit"]), [], set(asked["include"])
    allowed = asked | {"include": []}
    while True:
        free = [i for i in range(len(blocks)) if i not in chosen and obeys([*chosen, i], blocks, allowed)]
        gains = {i: block_gain(cholesky, torch.from_numpy(blocks[i])) for i in free if not waiting or i in waiting}
        if not gains:
            return chosen
        weights = {i: costs[i] if rule == "gain per token" else 1 for i in gains}
        most = max(gains[i] / weights[i] for i in gains)
        best = min(i for i in gains if gains[i] / weights[i] >= most * (1 - 1e-9) - 1e-13)
        if gains[best] < asked.get("stop_below", 0.0) and not waiting:
            return chosen
        chosen.append(best)
        waiting.discard(best)
        cholesky = updated_cholesky(cholesky, torch.from_numpy(blocks[best]))


@settings(max_examples=80, deadline=None)
@given(block_lists(scales=(1.0,), permuted=False), st.sampled_from([0.0, 0.3, 1.0, 4.0]), st.data())
def test_the_picks_are_those_of_greedy_among_what_the_conditions_allow(
    blocks: list[np.ndarray], stop_below: float, data: st.DataObject
) -> None:
    asked = data.draw(random_conditions(blocks)) | {"stop_below": stop_below}
    naive, paper, lazy = (select(blocks, **asked, algorithm=name, device="cpu") for name in ALGORITHMS)
    chosen = lazy.indices.tolist()
    assert paper.indices.tolist() == naive.indices.tolist() == chosen
    np.testing.assert_allclose(lazy.gains, naive.gains, rtol=1e-6, atol=1e-11)
    assert chosen == greedy_by_definition(blocks, asked, lazy.rule)
    assert obeys(chosen, blocks, asked)
    assert set(chosen[: len(asked["include"])]) == set(asked["include"])
    assert (lazy.gains[len(asked["include"]) :] >= stop_below).all()
    assert not lazy.stopped or stop_below > 0
    allowed = {i for i in range(len(blocks)) if len(blocks[i])} - set(asked["exclude"])
    assert lazy.exhausted == (set(chosen) == allowed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_case_worked_by_hand(algorithm: Any) -> None:
    blocks = [[[3.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]], [[9.0, 9.0]]]
    selection = select(
        blocks,
        3,
        include=np.array([2]),
        exclude=(4,),
        groups=np.array([7, 7, 8, 8, 8]),
        quotas={7: np.int64(1)},
        algorithm=algorithm,
    )
    assert selection.indices.tolist() == [2, 0, 3]  # 2 though it adds least; then the quota of 7 is used up
    np.testing.assert_allclose(selection.gains, np.log([2, 10, 1.5]), rtol=1e-12)
    assert (selection.exhausted, selection.stopped) == (False, False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("stop_below", "picks"), [(0.0, [1, 2, 0]), (0.5, [1, 2]), (2.0, [1]), (3.0, [])])
def test_a_run_ends_where_a_pick_would_add_too_little(algorithm: Any, stop_below: float, picks: list[int]) -> None:
    blocks = [[[2.0, 0.0]], [[3.0, 0.0]], [[0.0, 1.0]]]  # log 10, then log 2, then log 1.4
    selection = select(blocks, 3, stop_below=stop_below, algorithm=algorithm)
    assert selection.indices.tolist() == picks
    assert selection.stopped == (len(picks) < 3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_must_be_included_is_chosen_however_little_it_adds(algorithm: Any) -> None:
    selection = select([[[1.0]], [[5.0]], [[1e-3]]], 3, include=[2, 2], stop_below=1.0, algorithm=algorithm)
    assert selection.indices.tolist() == [2, 1]
    assert selection.stopped


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_conditions_may_leave_nothing_to_choose(algorithm: Any, unit: Any) -> None:
    for nothing in ({"exclude": [0, 1]}, {"groups": "ab", "quotas": {"a": 0, "b": 0}}):
        selection = select([np.eye(2), np.eye(2)], 4, budget_unit=unit, algorithm=algorithm, **nothing)
        assert (len(selection), selection.information_gain) == (0, 0.0)
        assert selection.certificate is not None
        assert selection.certificate.ratio == 1.0 or "quotas" in nothing  # of which the bound makes no use


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"include": [4]}, "include names block 4; there are 4, the first is 0"),
        ({"exclude": [-1]}, "exclude names block -1; there are 4"),
        ({"include": [0.0]}, "include must be a list of block numbers, not float64"),
        ({"exclude": [[1], [2]]}, r"exclude must be a list of block numbers, not int64 of shape \(2, 1\)"),
        ({"exclude": ["one"]}, "exclude must be a list of block numbers"),
        ({"include": [True, False, True, False]}, "include must be a list of block numbers, not bool"),
        ({"include": [0, 1], "exclude": [1]}, "block 1 must be included but is among those to exclude"),
        ({"include": [3]}, "block 3 must be included but holds no token"),
        ({"include": [0, 1, 2], "budget": 2}, "cost 3 sentences, more than the budget of 2"),
        ({"include": [0, 1], "budget": 3, "budget_unit": "tokens"}, "cost 4 tokens, more than the budget of 3"),
        ({"quotas": {"c": 1}}, "quota for group 'c', but no block is of it; groups are 'a', 'b'"),
        ({"quotas": {"a": 1.0}}, "quota of group 'a' must be a whole number of at least 0, not 1.0"),
        ({"quotas": {"a": True}}, "quota of group 'a' must be a whole number of at least 0, not True"),
        ({"quotas": {"a": -1}}, "quota of group 'a' must be a whole number of at least 0, not -1"),
        ({"quotas": {"a": 1}, "include": [0, 1]}, "2 blocks of the group of block 0 must be included, its quota is 1"),
        ({"quotas": {"a": 1}, "groups": None}, "quotas need the group of each of the 4 blocks, in `groups`; there are"),
        ({"quotas": {"a": 1}, "groups": "aab"}, "quotas need the group of each of the 4 blocks, in `groups`"),
        ({"stop_below": -0.1}, "stop_below must be a number of nats of at least 0, not -0.1"),
        ({"stop_below": float("nan")}, "stop_below"),
    ],
)
@pytest.mark.parametrize("kept", [False, True], ids=["", "with a checkpoint"])
def test_bad_conditions_are_named(changed: dict[str, Any], message: str, kept: bool, tmp_path: Any) -> None:
    blocks = [np.eye(2), np.eye(2), np.eye(2), np.zeros((0, 2))]
    checkpoint = tmp_path / "checkpoint" if kept else None
    with pytest.raises(InputError, match=message):
        select(blocks, **({"budget": 3, "groups": "aabb", "checkpoint": checkpoint} | changed))
