"""What repeated comparisons say of single groups of held-out sentences, such as tasks, and of the worst of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fishersft.numerics.over_seeds import mean_over_seeds
from fishersft.reporting.comparison import Comparison
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.summary import Interval
from fishersft.reporting.text import interval, number, p_value, percent


def group_sheets(comparisons: Sequence[Comparison], counts: Sequence[Mapping[str, int]], primary: str) -> list[Sheet]:
    """Tables by group, by the group's rank in the pool, and of each choice's worst group; intervals are Student's.

    None where the comparisons have no groups.

    Args:
        comparisons: of the same methods at one budget, with the same groups; at least 2.
        counts: of each comparison, how many rows of its pool are of each group.
        primary: the method that comes first, and that the others' worst groups are compared with.
    """
    if not comparisons[0].groups:
        return []
    methods = list(dict.fromkeys([primary, *(item.method for item in comparisons[0].groups)]))
    (column,) = {found.macro_column for found in comparisons}
    by_name = [{group: group for group in sorted(count)} for count in counts]
    by_rank = [
        {group: str(rank) for rank, group in enumerate(sorted(count, key=lambda of: -count[of]), 1)} for count in counts
    ]
    return [
        _by_row(f"By {column}", str(column), methods, comparisons, counts, by_name),
        _by_row(
            f"By rank of the {column} in the pool, 1 the most common", "Rank", methods, comparisons, counts, by_rank
        ),
        _worst(str(column), methods, comparisons),
    ]


def _by_row(
    title: str,
    heading: str,
    methods: Sequence[str],
    comparisons: Sequence[Comparison],
    counts: Sequence[Mapping[str, int]],
    row_of: Sequence[Mapping[str, str]],
) -> Sheet:
    """Every method's difference from uniform in a group of each comparison, which `row_of` gives a row of the table."""
    found = [{(item.method, item.group): item for item in comparison.groups} for comparison in comparisons]
    rows = []
    for name in row_of[0].values():
        groups = [next(group for group, row in of.items() if row == name) for of in row_of]
        share = np.mean([count[group] / sum(count.values()) for count, group in zip(counts, groups, strict=True)])
        items = {method: [of[method, group] for of, group in zip(found, groups, strict=True)] for method in methods}
        differences = [interval(_mean([item.difference.value for item in items[method]]), 3) for method in methods]
        uniform = number(float(np.mean([item.uniform for item in items[methods[0]]])), 3)
        rows.append(Row((name,), (percent(float(share)), uniform, *differences)))
    columns = (heading, "Share of the pool", "Uniform, nats/token", *methods)
    return Sheet(f"{title}: differences from uniform, nats/token [95%, not corrected]", columns, rows)


def _worst(column: str, methods: Sequence[str], comparisons: Sequence[Comparison]) -> Sheet:
    """The greatest loss over the groups, which may be another group for each choice: a method's less uniform's."""
    worst = {method: np.array([_greatest(found, method, "mean") for found in comparisons]) for method in methods}
    uniform = np.array([_greatest(found, methods[0], "uniform") for found in comparisons])
    first, rows = methods[0], []
    for method in methods:
        ahead = mean_over_seeds(worst[first] - worst[method]) if method != first else None
        cells = (
            number(float(worst[method].mean()), 3),
            interval(_mean(worst[method] - uniform), 3),
            interval(None if ahead is None else Interval.of(ahead), 3),
            p_value(None if ahead is None else ahead.p),
        )
        rows.append(Row((method,), cells))
    columns = (
        "Method",
        "Loss, nats/token",
        "Difference from uniform's worst [95%]",
        f"{first}'s worst less this one's [95%]",
        "p",
    )
    return Sheet(f"Each choice's own worst {column}", columns, rows)


def _greatest(comparison: Comparison, method: str, of: str) -> float:
    return max(getattr(item, of) for item in comparison.groups if item.method == method)


def _mean(differences: Sequence[float] | np.ndarray) -> Interval:
    return Interval.of(mean_over_seeds(np.asarray(differences)))
