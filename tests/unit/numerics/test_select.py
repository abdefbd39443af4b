from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, information_gains_along, lazy, looks, select, shortlist
from tests.unit.numerics.conftest import block_lists

ALGORITHMS = ["naive", "paper", "lazy"]


@pytest.fixture
def random_blocks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(rng.integers(1, 12), 8)) for _ in range(40)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_case_worked_by_hand(algorithm: Any) -> None:
    blocks = [
        [[2.0, 0.0]],  # first log 5; after (3, 0): log(14 / 10); after both: the same
        [[3.0, 0.0]],  # first log 10, the best
        [[0.0, 1.0], [0.0, 1.0]],  # log 3, first and second: the best of the second step
    ]
    selection = select(blocks, budget=3, algorithm=algorithm)
    assert selection.indices.tolist() == [1, 2, 0]
    np.testing.assert_allclose(selection.gains, np.log([10, 3, 1.4]), rtol=1e-12)
    assert selection.information_gain == pytest.approx(math.log(42), rel=1e-12)
    assert selection.tokens.tolist() == [1, 2, 1]
    assert (selection.indices.dtype, selection.gains.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_regularization_is_the_prior_weight(algorithm: Any) -> None:
    selection = select([[[3.0, 4.0]]], budget=1, regularization=5.0, algorithm=algorithm)
    assert selection.gains[0] == pytest.approx(math.log(1 + 25 / 5), rel=1e-12)


@settings(max_examples=150, deadline=None)
@given(block_lists(scales=(1.0,), permuted=False), st.sampled_from([1e-2, 1.0, 1e4, 1e8]), st.data())
def test_the_three_algorithms_give_the_same_picks(blocks: list[np.ndarray], lam: float, data: st.DataObject) -> None:
    """Where dense log determinants can tell gains apart; that permuted copies differ is beyond them."""
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    blocks = [torch.from_numpy(block).to(dtype) for block in blocks]
    unit = data.draw(st.sampled_from(["sentences", "tokens"]))
    most = sum(len(block) for block in blocks) if unit == "tokens" else len(blocks)
    budget = data.draw(st.integers(1, most + 2))
    naive, paper, fast = (
        select(blocks, budget, budget_unit=unit, regularization=lam, algorithm=name, device="cpu")  # type: ignore[arg-type]
        for name in ALGORITHMS
    )
    assert paper.indices.tolist() == naive.indices.tolist()
    assert fast.indices.tolist() == naive.indices.tolist()
    np.testing.assert_allclose(paper.gains, naive.gains, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fast.gains, naive.gains, rtol=1e-6, atol=1e-11)
    assert paper.evaluations <= naive.evaluations


@example(
    blocks=[np.array([[0.5275646, -0.55431263, 2.68721644]]) * k for k in (1, -5.1, 3.4, 12.4, 9.0, -6.7, -12.1)],
    lam=1e-6,
    scale=1e10,
)
@settings(max_examples=60, deadline=None)
@given(block_lists(), st.sampled_from([1e-6, 1.0, 1e8]), st.sampled_from([1e-6, 1.0, 1e4, 1e10]))
def test_every_lazy_pick_is_a_best_one_at_any_scale(blocks: list[np.ndarray], lam: float, scale: float) -> None:
    """Where dense log determinants lose their digits: against gains by singular values.

    Vectors in one line are not quite in one as floats: what rounding leaves beside it has energy of its own, and at the
    largest scales some of it is gained.
    """
    blocks = [block * scale for block in blocks]
    largest = max((float(np.abs(block).max()) for block in blocks if block.size), default=0.0)
    beside = 4 * (np.finfo(np.float64).eps * largest) ** 2 / lam
    pool = TokenBlocks.from_sequence(blocks)
    selection = select(pool, budget=4, regularization=lam, device="cpu")
    chosen = selection.indices.tolist()
    for step, (index, gain) in enumerate(zip(chosen, selection.gains, strict=True)):
        others = [i for i in range(len(blocks)) if i not in chosen[:step] and len(blocks[i])]
        gains = {i: information_gains_along(pool, [*chosen[:step], i], lam)[-1] for i in others}
        assert math.isfinite(gain)
        assert gain == pytest.approx(gains[index], rel=1e-6, abs=beside)
        assert gain >= max(gains.values()) * (1 - 1e-6) - 1e-12 - beside


def test_lazy_agrees_with_naive_over_many_batches(
    random_blocks: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    naive = select(random_blocks, budget=25, algorithm="naive")
    monkeypatch.setattr(lazy, "_FIRST_LOOKS", 3)
    monkeypatch.setattr(looks, "_JOB_ELEMENTS", 100)
    monkeypatch.setattr(shortlist, "_LENGTH", 4)
    fast = select(random_blocks, budget=25, device="cpu")
    assert fast.indices.tolist() == naive.indices.tolist()
    np.testing.assert_allclose(fast.gains, naive.gains, rtol=1e-9)
    assert fast.evaluations < naive.evaluations


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_equal_blocks_the_lower_index_comes_first(algorithm: Any) -> None:
    block = np.random.default_rng(0).normal(size=(5, 7))
    blocks = [block * 0.1, block, block[::-1], block, np.zeros((2, 7)), np.zeros((3, 7)), block]
    selection = select(blocks, budget=7, algorithm=algorithm)
    assert selection.indices.tolist() == [1, 2, 3, 6, 0, 4, 5]


def test_many_copies_cost_lazy_no_look_each() -> None:
    block = np.random.default_rng(0).normal(size=(5, 7))
    selection = select([block] * 200, budget=50)
    assert selection.indices.tolist() == list(range(50))
    assert selection.evaluations < 200


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_blocks_without_tokens_are_never_chosen(algorithm: Any) -> None:
    empty = np.zeros((0, 2))
    selection = select([empty, np.zeros((1, 2)), empty, np.ones((1, 2))], budget=4, algorithm=algorithm)
    assert selection.indices.tolist() == [3, 1]
    assert selection.exhausted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_budget_takes_only_what_still_fits(algorithm: Any) -> None:
    blocks = [np.eye(4)[:3] * 9, np.eye(4)[:2] * 5, np.eye(4)[3:] * 4, np.eye(4)[2:3]]
    selection = select(blocks, budget=4, budget_unit="tokens", algorithm=algorithm)
    assert selection.indices.tolist() == [0, 2]  # 3 tokens, then only blocks of one token fit
    assert selection.tokens.sum() == 4
    assert not selection.exhausted
    nothing = select([np.ones((3, 2))], budget=2, budget_unit="tokens", algorithm=algorithm)
    assert len(nothing) == 0
    assert nothing.information_gain == 0.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_a_token_budget_the_better_rule_wins_and_is_named(algorithm: Any) -> None:
    # One block of 4 tokens gains log 10; four of one token log 9 each, together far more.
    short = [np.eye(5)[:4] * 0.0 + np.eye(5)[:1] * 1.5, *(np.eye(5)[i : i + 1] * np.sqrt(8) for i in range(1, 5))]
    by_token = select(short, budget=4, budget_unit="tokens", algorithm=algorithm)
    assert (by_token.rule, by_token.indices.tolist()) == ("gain per token", [1, 2, 3, 4])
    # The best rate is that of a block of one token, which leaves no room for the block that gains most.
    long = [np.eye(5)[:1] * 2.0, np.eye(5)[:4] * 1.9]
    by_gain = select(long, budget=4, budget_unit="tokens", algorithm=algorithm)
    assert (by_gain.rule, by_gain.indices.tolist()) == ("gain", [1])
    assert select(short, budget=4, algorithm=algorithm).rule == "gain"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_budget_beyond_the_corpus_takes_all_in_greedy_order(random_blocks: list[np.ndarray], algorithm: Any) -> None:
    blocks = random_blocks[:10]
    everything = select(blocks, budget=1000, algorithm=algorithm)
    assert sorted(everything.indices.tolist()) == list(range(10))
    assert everything.exhausted
    some = select(blocks, budget=9, algorithm=algorithm)
    assert some.indices.tolist() == everything.indices[:9].tolist()
    assert not some.exhausted


def test_gains_are_those_along_the_order_chosen(random_blocks: list[np.ndarray]) -> None:
    pool = TokenBlocks.from_sequence(random_blocks)
    selection = select(pool, budget=20, regularization=0.5)
    np.testing.assert_allclose(selection.gains, information_gains_along(pool, selection.indices, 0.5), rtol=1e-9)


def test_greedy_keeps_its_guarantee_against_all_subsets(random_blocks: list[np.ndarray]) -> None:
    pool = TokenBlocks.from_sequence(random_blocks[:9])
    best = max(information_gains_along(pool, subset).sum() for subset in itertools.combinations(range(9), 3))
    assert (1 - 1 / math.e) * best <= select(pool, budget=3).information_gain <= best * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_dtypes_are_computed_in_float64(random_blocks: list[np.ndarray], dtype: torch.dtype) -> None:
    narrow = [torch.from_numpy(block).to(dtype) for block in random_blocks]
    wide = [block.double() for block in narrow]
    for algorithm in ALGORITHMS:
        few = select(narrow, budget=8, algorithm=algorithm)  # type: ignore[arg-type]
        reference = select(wide, budget=8, algorithm=algorithm)  # type: ignore[arg-type]
        assert few.indices.tolist() == reference.indices.tolist()
        np.testing.assert_allclose(few.gains, reference.gains, rtol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_gives_the_picks_of_the_cpu(random_blocks: list[np.ndarray]) -> None:
    gpu, cpu = (select(random_blocks, budget=25, device=device) for device in ("cuda", "cpu"))
    assert gpu.indices.tolist() == cpu.indices.tolist()
    np.testing.assert_allclose(gpu.gains, cpu.gains, rtol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("unit", "budget", "total", "picks"), [("sentences", 3, 3, 3), ("tokens", 1000, 18, 6)])
def test_progress_is_told_after_each_pick_of_every_run(
    algorithm: Any, unit: Any, budget: int, total: int, picks: int
) -> None:
    calls: list[tuple[int, int]] = []
    blocks = [np.eye(3)] * 3
    select(
        blocks,
        budget,
        budget_unit=unit,
        algorithm=algorithm,
        on_progress=lambda progress: calls.append((progress.spent, progress.spendable)),
    )
    assert calls == [(total * k // picks, total) for k in range(1, picks + 1)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": 0}, "budget must be a whole number of at least 1, not 0"),
        ({"budget": -3}, "budget"),
        ({"budget": 2.0}, "budget"),
        ({"budget": True}, "budget"),
        ({"budget_unit": "words"}, "sentences, tokens, not 'words'"),
        ({"regularization": 0.0}, "regularization"),
        ({"regularization": float("nan")}, "regularization"),
        ({"regularization": float("inf")}, "regularization"),
        ({"regularization": "1"}, "regularization"),
        ({"algorithm": "fast"}, "lazy, paper, naive, not 'fast'"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"device": "cuda:99"}, "torch sees"),
        ({"seed": 0.5}, "seed"),
        ({"blocks": []}, "no token blocks"),
        ({"blocks": [np.zeros((0, 2))]}, "no token block holds a token"),
        ({"blocks": np.ones((4, 2))}, r"reshape it to \(1, 2\)"),
        ({"blocks": [np.ones((1, 2)), np.array([[1.0, np.nan]])]}, "token block 1 holds NaN"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"blocks": [np.ones((1, 2))], "budget": 1} | changed
    with pytest.raises(InputError, match=message):
        select(**arguments)


@given(
    blocks=block_lists(max_blocks=7, max_dim=4), unit=st.sampled_from(["sentences", "tokens"]), budget=st.integers(1, 9)
)
def test_greedy_keeps_its_guarantee_and_its_certificate_is_never_under_the_best_of_all_subsets(
    blocks: list[np.ndarray], unit: Any, budget: int
) -> None:
    costs = [len(block) if unit == "tokens" else 1 for block in blocks]
    best = 0.0
    for size in range(len(blocks) + 1):
        for subset in itertools.combinations(range(len(blocks)), size):
            if sum(costs[i] for i in subset if len(blocks[i])) <= budget:
                rows = np.concatenate([np.zeros((0, blocks[0].shape[1])), *(blocks[i] for i in subset)])
                best = max(best, float(np.linalg.slogdet(np.eye(rows.shape[1]) + rows.T @ rows).logabsdet))
    for algorithm in ("lazy", "naive"):
        selection = select(blocks, budget, budget_unit=unit, algorithm=algorithm)  # type: ignore[arg-type]
        assert selection.certificate.upper_bound >= best * (1 - 1e-9) - 1e-9
        share = (1 - 1 / np.e) / (2 if unit == "tokens" else 1)
        assert selection.information_gain >= share * best * (1 - 1e-6) - 1e-9
        assert selection.certificate.information_gain == pytest.approx(selection.information_gain, rel=1e-6, abs=1e-9)


def test_choosing_everything_is_certified_as_the_best_possible(random_blocks: list[np.ndarray]) -> None:
    assert select(random_blocks, len(random_blocks)).certificate.ratio > 1 - 1e-6


def test_a_quota_that_the_included_blocks_fill_leaves_the_certificate_whole() -> None:
    blocks = [[[2.0, 0.0]], [[3.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]]
    selection = select(blocks, 2, groups=["a", "a", "b", "b"], quotas={"a": 1}, include=[0], device="cpu")
    assert selection.certificate is not None
    assert selection.certificate.ratio > 0.999  # one block is given, and the best of the other two follows
