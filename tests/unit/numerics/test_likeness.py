"""Likeness to a target and effective rank, against plain loops and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics.likeness import effective_rank, like_target, share_like_target


def test_like_is_as_near_as_nine_tenths_of_the_targets_own() -> None:
    rng = np.random.default_rng(0)
    pool, target = rng.normal(size=(50, 6)), rng.normal(size=(11, 6)) + 1

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))

    own = [max(cosine(target[i], target[j]) for j in range(11) if j != i) for i in range(11)]
    least = sorted(own)[1]  # of 11, the 10% quantile is the second smallest
    expected = [max(cosine(vector, aim) for aim in target) >= least for vector in pool]
    assert 0 < sum(expected) < 50
    assert like_target(pool, target).tolist() == expected
    assert share_like_target(pool, target) == pytest.approx(sum(expected) / 50 / 0.9)


def test_the_share_on_target_of_a_mixture_is_found() -> None:
    rng = np.random.default_rng(1)
    directions = np.eye(20)
    on, off = (directions[place] * 8 + rng.normal(size=(count, 20)) for place, count in ((0, 300), (1, 700)))
    target = directions[0] * 8 + rng.normal(size=(40, 20))
    assert share_like_target(np.concatenate([on, off]), target) == pytest.approx(0.3, abs=0.05)
    assert share_like_target(on, target) == pytest.approx(1, abs=0.1)


def test_the_effective_rank_is_the_number_of_equal_directions() -> None:
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    four = np.tile(rotation[:4], (5, 1))
    assert effective_rank(four) == pytest.approx(4)
    values = np.array([3.0, 1.0])
    shares = values / values.sum()
    assert effective_rank(np.diag(values)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_one_target_vector_is_too_few() -> None:
    with pytest.raises(InputError, match="at least 2 of a target"):
        like_target(np.ones((3, 2)), np.ones((1, 2)))
