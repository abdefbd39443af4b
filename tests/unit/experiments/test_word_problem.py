"""Sentences from a known softmax model: drawn as said, and measured as said."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.stats import chisquare

from fishersft.errors import InputError
from fishersft.experiments.softmax_regression import probabilities
from fishersft.experiments.word_problem import Features, WordProblem, draw_problem

CLASSES = 6


def drawn(features: Features, sentences: int = 400, positions: int = 8, seed: int = 0) -> WordProblem:
    rng = np.random.default_rng(seed)
    words = 30 if features == "independent" else CLASSES
    return draw_problem(rng.normal(size=(words, 3)), CLASSES, sentences, positions, features, rng)


@pytest.mark.parametrize("features", get_args(Features))
def test_tokens_follow_the_softmax_model_after_every_word(features: Features) -> None:
    problem = drawn(features, sentences=4000)
    counts = problem.counts(np.arange(4000))
    expected = probabilities(problem.vectors, problem.theta) * counts.sum(axis=1, keepdims=True)
    assert counts.sum() == 4000 * 8
    often = expected.min(axis=1) > 5
    assert often.any()
    p_values = chisquare(counts[often], expected[often], axis=1).pvalue
    assert (p_values > 1e-4).all()


def test_features_of_own_tokens_are_the_tokens_before_them_and_redrawn_ones_are_not() -> None:
    own, redrawn = drawn("own tokens"), drawn("own tokens, redrawn")
    np.testing.assert_array_equal(own.words[:, 1:], own.tokens[:, :-1])
    assert (redrawn.words[:, 1:] == redrawn.tokens[:, :-1]).mean() < 0.7


def test_logits_have_a_variance_of_about_one() -> None:
    problem = drawn("independent")
    assert 0.5 < (problem.vectors @ problem.theta).var() < 2


def test_blocks_and_counts_are_of_the_same_words() -> None:
    problem = drawn("independent", sentences=5)
    np.testing.assert_allclose(problem.blocks[3].numpy(), problem.vectors[problem.words[3]], rtol=1e-6)
    np.testing.assert_array_equal(
        problem.counts(np.array([3])).sum(axis=1), np.bincount(problem.words[3], minlength=30)
    )


def test_the_error_of_a_sentence_is_the_sum_over_its_positions_and_knows_no_shift_of_all_classes() -> None:
    problem = drawn("independent", sentences=3)
    off = problem.theta.copy()
    off[0, 0] += 1.0
    shift = np.zeros(CLASSES)
    shift[0] = 1.0
    length = np.linalg.norm(shift - shift.mean())
    expected = np.abs(problem.vectors[problem.words][:, :, 0]).sum(axis=1) * length
    np.testing.assert_allclose(problem.errors(off), expected)
    np.testing.assert_allclose(problem.errors(problem.theta + 7.0), 0, atol=1e-9)


def test_features_of_own_tokens_need_a_vector_a_class() -> None:
    with pytest.raises(InputError, match="need one vector a class: 6, not 5"):
        draw_problem(np.ones((5, 2)), CLASSES, 3, 4, "own tokens", np.random.default_rng(0))
