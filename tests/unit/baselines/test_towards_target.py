"""Methods that compare with a target: round robin, RDS+, cross-entropy difference and LESS by their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from fishersft import baselines
from fishersft.errors import InputError

RNG = np.random.default_rng(3)
LENGTHS = RNG.integers(0, 9, size=40)  # some have no token


def by_turns(scores: np.ndarray, lengths: np.ndarray, tokens: int) -> list[int]:
    """Round robin as the paper tells it, up to the prefix whose tokens are nearest to the budget."""
    left, order = [i for i in range(len(lengths)) if lengths[i]], list[int]()
    while left:
        of = scores[len(order) % len(scores)]
        best = max(left, key=lambda i: (of[i], -i))
        left.remove(best)
        order.append(best)
    totals = np.cumsum(lengths[order])
    return order[: int(np.abs(totals - tokens).argmin()) + 1]


@pytest.mark.parametrize("tokens", [1, 30, 10_000])
def test_round_robin_lets_each_target_example_take_its_best_that_is_left(tokens: int) -> None:
    scores = RNG.integers(0, 5, size=(3, 40)).astype(float)  # many ties
    chosen = baselines.round_robin(scores, LENGTHS, tokens, budget_unit="tokens")
    assert chosen.tolist() == by_turns(scores, LENGTHS, tokens)
    assert chosen.dtype == np.int64


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(40), "shape"),
        (np.zeros((0, 40)), "shape"),
        (np.zeros((2, 39)), "39"),
        (np.full((1, 40), np.nan), "NaN"),
    ],
)
def test_round_robin_says_what_is_wrong_with_scores(scores: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        baselines.round_robin(scores, LENGTHS, 5)


def test_rds_plus_takes_turns_by_the_cosine_and_heeds_no_length_of_vectors() -> None:
    pool, target = RNG.normal(size=(40, 6)), RNG.normal(size=(4, 6))
    cosines = np.array([[t @ p / np.sqrt((t @ t) * (p @ p)) for p in pool] for t in target])
    expected = by_turns(cosines, LENGTHS, 30)
    assert baselines.rds_plus(pool, target, LENGTHS, 30, budget_unit="tokens").tolist() == expected
    stretched = pool * RNG.uniform(0.1, 9, size=(40, 1))
    assert baselines.rds_plus(stretched, 5 * target, LENGTHS, 30, budget_unit="tokens").tolist() == expected


def test_a_target_example_without_a_token_takes_no_turn() -> None:
    pool, target = RNG.normal(size=(40, 6)), RNG.normal(size=(2, 6))
    with_empty = np.vstack([target[:1], np.zeros((1, 6)), target[1:]])
    assert (baselines.rds_plus(pool, with_empty, LENGTHS, 9) == baselines.rds_plus(pool, target, LENGTHS, 9)).all()
    with pytest.raises(InputError, match="every vector of the target is zero"):
        baselines.rds_plus(pool, np.zeros((2, 6)), LENGTHS, 9)
    with pytest.raises(InputError, match="same model"):
        baselines.rds_plus(pool, np.ones((2, 5)), LENGTHS, 9)


def test_cross_entropy_difference_takes_what_the_target_made_likelier() -> None:
    before, after = RNG.uniform(2, 4, size=40), RNG.uniform(2, 4, size=40)
    chosen = baselines.cross_entropy_difference(before, after, LENGTHS, 8)
    ranked = sorted(np.flatnonzero(LENGTHS), key=lambda i: after[i] - before[i])
    assert chosen.tolist() == ranked[:8]


def test_influence_adds_up_cosines_times_learning_rates_over_checkpoints() -> None:
    pool, target, rates = RNG.normal(size=(3, 40, 7)), RNG.normal(size=(3, 2, 7)), [0.5, 0.2, 0.1]
    expected = np.zeros((2, 40))
    for rate, gradients, aims in zip(rates, pool, target, strict=True):
        for t, aim in enumerate(aims):
            for i, gradient in enumerate(gradients):
                expected[t, i] += rate * (aim @ gradient) / (np.linalg.norm(aim) * np.linalg.norm(gradient))
    found = baselines.influences(list(pool), list(target), rates)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    of_either = sorted(np.flatnonzero(LENGTHS), key=lambda i: -max(expected[0, i], expected[1, i]))
    assert baselines.less(found, LENGTHS, 6).tolist() == of_either[:6]


def test_influence_needs_as_many_of_each_checkpoint() -> None:
    with pytest.raises(InputError, match="1 checkpoints for the pool, 2 for the target"):
        baselines.influences([np.eye(2)], [np.eye(2), np.eye(2)], [0.1, 0.1])
