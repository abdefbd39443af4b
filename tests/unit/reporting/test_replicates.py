"""What repeated comparisons say together, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fishersft.reporting.comparison import Comparison
from fishersft.reporting.replicates import over_replicates, replicates_sheet
from tests.unit.reporting.test_comparison import against, comparison

DIFFERENCES = {
    "mine": [-0.1, -0.12, -0.07, -0.11],
    "filter": [-0.2, -0.21, -0.15, -0.24],
    "other": [0.01, -0.01, 0.005, -0.004],
}


def replicates() -> list[Comparison]:
    return [comparison(*(against(method, values[n], 0.5) for method, values in DIFFERENCES.items())) for n in range(4)]


def test_the_difference_and_its_p_are_students_over_replicates() -> None:
    found = {item.method: item for item in over_replicates(replicates(), "mine", "filter")}
    for method, values in DIFFERENCES.items():
        expected = ttest_1samp(values, 0)
        interval = expected.confidence_interval()
        one_sided = ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95)
        item = found[method]
        assert [item.difference.low, item.difference.high] == pytest.approx([interval.low, interval.high])
        assert item.p == pytest.approx(expected.pvalue)
        assert item.excluded_gain == pytest.approx(max(0, -one_sided.low))
        assert item.deviation_over_replicates == pytest.approx(np.std(values, ddof=1))
    assert [found[method].better_in for method in DIFFERENCES] == [4, 4, 2]


def test_one_hypothesis_is_primary_and_the_others_are_corrected_together() -> None:
    found = over_replicates(replicates(), "other", "filter")
    assert [item.method for item in found] == ["other", "mine", "filter"]
    assert found[0].p_corrected == found[0].p
    small, large = sorted(item.p for item in found[1:])
    assert sorted(item.p_corrected for item in found[1:]) == pytest.approx([2 * small, max(2 * small, large)])
    assert [item.verdict for item in found] == ["equivalent", "better", "better"]


def test_shares_are_of_the_filters_mean_gain() -> None:
    found = {item.method: item for item in over_replicates(replicates(), "mine", "filter")}
    assert found["filter"].filter_share == pytest.approx(1)
    assert found["mine"].filter_share == pytest.approx(0.1 / 0.2)
    assert all(item.filter_share is None for item in over_replicates(replicates(), "mine"))


def test_the_table_has_a_row_a_method() -> None:
    sheet = replicates_sheet(over_replicates(replicates(), "mine", "filter"))
    assert [row.heading for row in sheet.rows] == ["mine", "filter", "other"]
    assert all(len(row.cells) == len(sheet.columns) - 1 for row in sheet.rows)
    assert sheet.rows[0].cells[3] == "4 of 4"
