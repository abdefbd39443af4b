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


def test_a_budget_in_sentences_compares_at_equal_sentences() -> None:
    found = []
    for one, value in zip(replicates(), DIFFERENCES["mine"], strict=True):
        told = one.model_dump()
        of_mine = next(item for item in told["versus"] if item["method"] == "mine")
        mean = {"value": 2 * value, "low": 2 * value - 0.5, "high": 2 * value + 0.5}
        told["versus"].append({**of_mine, "basis": "sentences", "mean": mean})
        found.append(Comparison.model_validate({**told, "unit": "sentences"}))
    (item,) = over_replicates(found, "mine")
    assert item.difference.value == pytest.approx(2 * np.mean(DIFFERENCES["mine"]))
    assert replicates_sheet([item]).title == "Over replicates, at equal examples"


def by_task(found: Comparison, hard: float, easy: float) -> Comparison:
    """The same with two tasks, "hard" the worse under the base model, and a method's differences in them."""
    about = {"budget": 2000, "sentences": 9, "tokens": 99, "uniform": 2.0}
    told = [
        {**about, "method": item.method, "group": task, "base": base, "mean": 2.0 + value, "difference": interval}
        for item in found.versus
        for task, base, value in (("easy", 3.0, easy), ("hard", 4.0, hard))
        if (interval := {"value": value, "low": value - 1, "high": value + 1})
    ]
    return Comparison.model_validate({**found.model_dump(), "macro_column": "task", "groups": told})


def test_where_sentences_have_groups_the_worst_by_the_base_model_is_told_too() -> None:
    values = [-0.2, -0.1, -0.3, 0.1]
    found = [by_task(one, hard, 9.0) for one, hard in zip(replicates(), values, strict=True)]
    together = over_replicates(found, "mine", "filter")
    interval = ttest_1samp(values, 0).confidence_interval()
    assert together[0].worst_group is not None
    assert [together[0].worst_group.value, together[0].worst_group.low, together[0].worst_group.high] == pytest.approx(
        [np.mean(values), interval.low, interval.high]
    )
    sheet = replicates_sheet(together)
    assert sheet.columns[2] == "In the worst group [95%]"
    assert all(len(row.cells) == len(sheet.columns) - 1 for row in sheet.rows)
    assert sheet.columns[2] not in replicates_sheet(over_replicates(replicates(), "mine")).columns


def test_the_deviation_over_orders_is_pooled_over_replicates() -> None:
    found = [comparison(against("mine", -0.1, 0.5, deviation_over_orders=sd), orders=2) for sd in (0.01, 0.03)]
    (item,) = over_replicates(found, "mine")
    assert item.deviation_over_orders == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2))
    sheet = replicates_sheet([item])
    assert sheet.rows[0].cells[sheet.columns.index("SD over orders") - 1] == "0.022"
    assert "SD over orders" not in replicates_sheet(over_replicates(replicates(), "mine")).columns


def test_the_table_has_a_row_a_method() -> None:
    sheet = replicates_sheet(over_replicates(replicates(), "mine", "filter"))
    assert [row.heading for row in sheet.rows] == ["mine", "filter", "other"]
    assert all(len(row.cells) == len(sheet.columns) - 1 for row in sheet.rows)
    assert sheet.rows[0].cells[3] == "4 of 4"
