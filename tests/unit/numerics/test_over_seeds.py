"""Means, ratios and slopes over seeds: exact where they can be, and their intervals hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fishersft.errors import InputError
from fishersft.numerics.over_seeds import log_log_slope, mean_over_seeds, ratio_over_seeds


def test_a_mean_is_told_as_students_test_has_it() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, size=12)
    found, expected = mean_over_seeds(values), ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high, found.p], [interval.low, interval.high, expected.pvalue])
    one_sided = ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95)
    np.testing.assert_allclose(found.bound, one_sided.low)


def test_seeds_that_all_agree_leave_nothing_to_be_unsure_of() -> None:
    assert mean_over_seeds(np.full(3, 2.0)) == (2.0, 2.0, 2.0, 0.0, 2.0)
    assert mean_over_seeds(np.zeros(3)) == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_intervals_over_five_seeds_hold_the_truth_in_about_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    found = [mean_over_seeds(rng.normal(1.0, 2.0, size=5)) for _ in range(2000)]
    assert 0.93 < np.mean([each.low <= 1.0 <= each.high for each in found]) < 0.97


def test_with_what_splits_share_intervals_hold_the_truth_as_often_where_values_resemble_each_other() -> None:
    """Values of correlation 0.2, which is what 0.25 held-out examples for each other one stand for."""
    rng = np.random.default_rng(2)
    drawn = [1 + np.sqrt(0.2) * rng.normal() + np.sqrt(0.8) * rng.normal(size=10) for _ in range(2000)]
    for shared, low, high in ((0.25, 0.93, 0.97), (0.0, 0.5, 0.85)):
        found = [mean_over_seeds(values, shared) for values in drawn]
        assert low < np.mean([each.low <= 1.0 <= each.high for each in found]) < high


def test_a_ratio_is_paired_by_seed() -> None:
    others = np.array([1.0, 100.0, 10_000.0])
    ratio = ratio_over_seeds(2 * others, others)
    assert ratio.value == pytest.approx(2)
    assert ratio.high - ratio.low < 1e-6
    assert ratio_over_seeds(others, others).p == 1.0


def test_a_power_law_has_its_exponent_as_slope() -> None:
    sizes = np.array([50.0, 100.0, 400.0])
    slope = log_log_slope(sizes, np.outer([1.0, 3.0], sizes**-0.5))
    assert slope.value == pytest.approx(-0.5)


@pytest.mark.parametrize("values", [np.array([1.0]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_what_has_no_interval_over_seeds_is_said(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="needs one finite value each of at least 2"):
        mean_over_seeds(values)
