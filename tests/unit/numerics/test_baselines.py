from __future__ import annotations

import numpy as np
import pytest
import torch

from fishersft.errors import InputError
from fishersft.numerics import uniform


def test_a_seed_fixes_the_order_and_a_larger_budget_extends_it() -> None:
    lengths = np.arange(1, 101)
    few, more = uniform(lengths, 10, seed=3), uniform(lengths, 20, seed=3)
    assert few.tolist() == more[:10].tolist()
    assert few.dtype == np.int64
    assert len(set(more.tolist())) == 20
    assert uniform(lengths, 10, seed=4).tolist() != few.tolist()


def test_blocks_without_tokens_are_skipped_and_a_large_budget_takes_the_rest() -> None:
    lengths = torch.tensor([3, 0, 2, 0, 1])
    for unit in ("sentences", "tokens"):
        assert sorted(uniform(lengths, 99, budget_unit=unit).tolist()) == [0, 2, 4]  # type: ignore[arg-type]


def test_a_token_budget_ends_at_the_nearest_total_without_a_bias() -> None:
    lengths = np.random.default_rng(0).integers(1, 61, size=400)
    strays = [int(lengths[uniform(lengths, 3000, budget_unit="tokens", seed=s)].sum()) - 3000 for s in range(400)]
    assert max(map(abs, strays)) <= 30
    assert abs(np.mean(strays)) < 3 * np.std(strays) / np.sqrt(len(strays))
    assert np.std(strays) > 1


def test_at_least_one_block_is_chosen() -> None:
    assert uniform(np.array([50]), 1, budget_unit="tokens").tolist() == [0]


def test_every_block_is_as_likely_as_any_other() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        counts[uniform(np.ones(10, dtype=int), 3, seed=seed)] += 1
    assert np.abs(counts / 2000 - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 2000)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="budget"):
        uniform(np.array([1]), 0)
    with pytest.raises(InputError, match="no token block holds a token"):
        uniform(np.array([0, 0]), 1)
