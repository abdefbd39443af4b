"""What splits on frozen features say together, against scipy and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from fishersft.experiments.frozen_split import HeadOutcome
from fishersft.reporting.frozen_features import (
    HeadRow,
    frozen_features_sheets,
    headline,
    over_splits,
    write_frozen_features,
)

GAINS = {"gradient matching": [0.10, 0.12, 0.08, 0.11], "D-optimal": [-0.30, -0.31, -0.28, -0.33]}
SHARED = 0.25


def splits() -> list[list[HeadOutcome]]:
    """Uniform has 2, 1.8 and 1.6 nats at 10, 20 and 40 examples; at 20, 40 and 80 each method gains twice as little."""
    found = []
    for split in range(4):
        rows = [
            HeadOutcome("uniform", size, 1.0, 2.0 - 0.2 * step, 0.5, 3) for step, size in enumerate([10, 20, 40, 80])
        ]
        for method, gains in GAINS.items():
            rows.append(HeadOutcome(method, 10, 1.0, 2.0 - gains[split], 0.5 + gains[split], 2))
            rows.append(HeadOutcome(method, 20, 1.0, 1.8 - gains[split] / 2, 0.5, 3))
        found.append(rows)
    return found


def row(method: str, budget: int) -> HeadRow:
    (found,) = [one for one in over_splits(splits(), [10, 20], SHARED) if (one.method, one.budget) == (method, budget)]
    return found


def test_the_interval_is_students_widened_for_what_splits_share() -> None:
    differences = -np.array(GAINS["gradient matching"])
    found, error = row("gradient matching", 10), differences.std(ddof=1) * np.sqrt(1 / 4 + SHARED)
    assert found.difference.value == pytest.approx(-0.1025)
    assert found.difference.high - found.difference.value == pytest.approx(t.ppf(0.975, 3) * error)
    assert found.p == pytest.approx(2 * t.sf(0.1025 / error, 3))
    assert found.p_if_independent == pytest.approx(ttest_1samp(differences, 0).pvalue)
    assert found.p > found.p_if_independent
    assert found.excluded_gain == pytest.approx(0.1025 + t.ppf(0.95, 3) * error)
    assert found.accuracy_difference.value == pytest.approx(0.1025)
    assert found.better_in == 4 and found.splits == 4


def test_the_primary_hypothesis_is_matching_at_the_largest_budget_and_the_others_are_corrected_together() -> None:
    found = over_splits(splits(), [10, 20], SHARED)
    assert (found[0].method, found[0].budget) == ("gradient matching", 20)
    assert found[0].p_corrected == found[0].p
    small, middle, large = sorted(one.p for one in found[1:])
    expected = np.maximum.accumulate([3 * small, 2 * middle, large])
    assert sorted(one.p_corrected for one in found[1:]) == pytest.approx(expected.tolist())
    assert {(one.method, one.verdict) for one in found} == {("gradient matching", "better"), ("D-optimal", "worse")}


def test_equivalent_uniform_examples_are_read_off_uniforms_curve() -> None:
    assert row("gradient matching", 10).equivalent == pytest.approx(10 * 2 ** (0.1025 / 0.2))
    assert row("D-optimal", 10).equivalent == 0
    sheet, _ = frozen_features_sheets(over_splits(splits(), [10, 20], SHARED), splits())
    column = sheet.columns.index("Equivalent uniform examples") - 1
    told = {(one.heading, one.cells[0]): one.cells[column] for one in sheet.rows}
    assert told["gradient matching", "10"] == "14" and told["D-optimal", "10"] == "under 10"


def test_the_headline_tells_the_primary_hypothesis_as_it_came_out() -> None:
    found = row("gradient matching", 20)
    assert headline(found).startswith("Primary: gradient matching at 20 examples is better than uniform: -0.051 [")
    unsure = found.model_copy(update={"p_corrected": 0.2})
    assert "20 examples is not shown to differ from uniform" in headline(unsure)


def test_the_tables_end_with_uniform_at_every_size_and_files_hold_all(tmp_path: Path) -> None:
    rows = over_splits(splits(), [10, 20], SHARED)
    sheets = frozen_features_sheets(rows, splits())
    assert [(one.heading, *one.cells[:2]) for one in sheets[1].rows[-4:]] == [
        ("uniform", "10", "2.000"),
        ("uniform", "20", "1.800"),
        ("uniform", "40", "1.600"),
        ("uniform", "80", "1.400"),
    ]
    assert all(len(one.cells) == len(sheet.columns) - 1 for sheet in sheets for one in sheet.rows)
    write_frozen_features(rows, splits(), tmp_path)
    assert "| gradient matching | 20 |" in (tmp_path / "frozen-features.md").read_text()
    assert len((tmp_path / "splits.csv").read_text().splitlines()) == 1 + 4 * 8
