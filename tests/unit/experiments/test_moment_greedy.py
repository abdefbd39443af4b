"""The greedy of few dimensions picks what `select` picks, in the same order."""

from __future__ import annotations

import numpy as np
import pytest

from fishersft.experiments.moment_greedy import moment_greedy
from fishersft.numerics import TokenBlocks, select


@pytest.mark.parametrize(("n", "tokens", "dim"), [(300, 20, 5), (200, 3, 12), (150, 1, 6)])
@pytest.mark.parametrize("regularization", [0.1, 1.0, 50.0])
def test_it_picks_what_select_picks(n: int, tokens: int, dim: int, regularization: float) -> None:
    rng = np.random.default_rng(n)
    blocks = TokenBlocks.from_sequence([rng.normal(size=(tokens, dim)) * rng.uniform(0.1, 2) for _ in range(n)])
    expected = select(blocks, 60, regularization=regularization, algorithm="naive").indices
    np.testing.assert_array_equal(moment_greedy(blocks, 60, regularization), expected)


def test_of_equals_the_lower_index_comes_first_and_all_are_chosen_in_the_end() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    blocks = TokenBlocks.from_sequence([row[None] for row in rows])
    assert moment_greedy(blocks, 4, 1.0).tolist() == [0, 1, 2, 3]
