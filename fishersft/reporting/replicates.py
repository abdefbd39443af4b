"""Comparisons that were repeated on fresh draws of pool, target and held-out examples, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fishersft.numerics.crossed import holm
from fishersft.numerics.over_seeds import mean_over_seeds
from fishersft.reporting.comparison import SURE, Basis, Comparison, Versus
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.summary import Facts, Interval
from fishersft.reporting.text import interval, number, p_value, percent

MARGIN = 0.03  # nats a token; a smaller gain is not worth the choosing


class Replicated(Facts):
    """A method against a uniform choice of as many tokens in as many steps, or of as many examples, over replicates.

    `difference` is the mean over replicates of the difference in mean held-out nats a token, with Student's interval;
    under 0 the method is better. `p_corrected` is `p` of the primary hypothesis, and Holm's for the other methods
    together. `excluded_gain` is the gain that a one-sided test at 5% excludes; `filter_share` the share of the perfect
    filter's mean gain, None where there is none that gains. The deviations are those of the difference over
    replicates, over the held-out sentences of one, and over orders of training on the same choices of one, None where
    each choice was trained in one order. `worst_group` is the mean over replicates of the difference in
    the group of held-out sentences that the base model predicts worst, None where sentences have no groups.
    `seconds_choosing` is the mean.
    """

    method: str
    basis: Basis
    replicates: int
    difference: Interval
    p: float
    p_corrected: float
    excluded_gain: float
    filter_share: float | None
    deviation_over_replicates: float
    deviation_over_sentences: float
    deviation_over_orders: float | None = None
    better_in: int
    worst_group: Interval | None = None
    seconds_choosing: float

    @property
    def verdict(self) -> Literal["better", "worse", "equivalent", "not shown to differ"]:
        """In words; equivalent where gains above 0.03 nats are excluded, too."""
        if self.p_corrected < SURE:
            return "better" if self.difference.value < 0 else "worse"
        return "equivalent" if self.excluded_gain <= MARGIN else "not shown to differ"


def over_replicates(
    comparisons: Sequence[Comparison], primary: str, perfect_filter: str | None = None
) -> list[Replicated]:
    """What the methods of comparisons of one budget did over all of them, the primary method first.

    A budget in tokens compares at equal tokens and steps, one in sentences at equal sentences.

    Args:
        comparisons: the same methods on draws of their own, at least 2.
        primary: the method of the primary hypothesis, whose p-value is not corrected.
        perfect_filter: the method whose gain others are a share of.

    Raises:
        InputError: fewer than 2 comparisons.
    """
    basis = comparisons[0].unit_basis
    fair = [{item.method: item for item in found.versus if item.basis == basis} for found in comparisons]
    methods = [primary, *(method for method in fair[0] if method != primary)]
    filtered = None if perfect_filter is None else float(np.mean([of[perfect_filter].mean.value for of in fair]))
    found = [_over_replicates([of[method] for of in fair], comparisons, filtered) for method in methods]
    corrected = [found[0].p, *holm([item.p for item in found[1:]])]
    return [item.model_copy(update={"p_corrected": p}) for item, p in zip(found, corrected, strict=True)]


def replicates_sheet(found: Sequence[Replicated]) -> Sheet:
    """The table of what the methods did over replicates."""
    reordered = any(item.deviation_over_orders is not None for item in found)
    grouped = any(item.worst_group is not None for item in found)
    rows = [
        Row(
            (item.method,),
            (
                interval(item.difference, 3),
                *([interval(item.worst_group, 3)] if grouped else []),
                p_value(item.p),
                p_value(item.p_corrected),
                f"{item.better_in} of {item.replicates}",
                number(item.excluded_gain, 3),
                percent(item.filter_share),
                number(item.deviation_over_replicates, 3),
                number(item.deviation_over_sentences, 3),
                *([number(item.deviation_over_orders, 3)] if reordered else []),
                number(item.seconds_choosing, 0),
                item.verdict,
            ),
        )
        for item in found
    ]
    columns = (
        "Method",
        "Difference from uniform, nats/token [95%]",
        *(["In the worst group [95%]"] if grouped else []),
        "p",
        "p, corrected",
        "Better in",
        "Gains excluded above",
        "Share of the perfect filter's gain",
        "SD over replicates",
        "SD over sentences",
        *(["SD over orders"] if reordered else []),
        "Seconds to choose",
        "Verdict",
    )
    equal = "tokens and steps" if found[0].basis == "tokens and steps" else "examples"
    return Sheet(f"Over replicates, at equal {equal}", columns, rows, words=columns[-1:])


def _over_replicates(items: Sequence[Versus], comparisons: Sequence[Comparison], filtered: float | None) -> Replicated:
    differences = np.array([item.mean.value for item in items])
    tested = mean_over_seeds(differences)
    of_sentences = [(item.mean.high - item.mean.low) / (2 * 1.96) for item in items]
    of_orders = [item.deviation_over_orders for item in items if item.deviation_over_orders is not None]
    arms = [next(arm for arm in found.arms if arm.method == items[0].method) for found in comparisons]
    return Replicated(
        method=items[0].method,
        basis=items[0].basis,
        replicates=len(items),
        difference=Interval.of(tested),
        p=tested.p,
        p_corrected=tested.p,
        excluded_gain=max(0.0, -tested.bound),
        filter_share=None if filtered is None or filtered >= 0 else tested.value / filtered,
        deviation_over_replicates=float(differences.std(ddof=1)),
        deviation_over_sentences=float(np.sqrt(np.mean(np.square(of_sentences)))),
        deviation_over_orders=float(np.sqrt(np.mean(np.square(of_orders)))) if of_orders else None,
        better_in=int((differences < 0).sum()),
        worst_group=_in_worst_group(items[0].method, comparisons),
        seconds_choosing=float(np.mean([arm.seconds_choosing for arm in arms])),
    )


def _in_worst_group(method: str, comparisons: Sequence[Comparison]) -> Interval | None:
    """A method's difference from uniform in each replicate's worst group, over replicates."""
    if not all(found.groups for found in comparisons):
        return None
    differences = [
        next(item for item in found.groups if item.method == method and item.group == found.worst_group)
        for found in comparisons
    ]
    return Interval.of(mean_over_seeds(np.array([item.difference.value for item in differences])))
