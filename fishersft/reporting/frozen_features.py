"""What splits on frozen features say together: every method beside the uniform choice, as data, table and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fishersft.experiments.frozen_split import MULTIPLES, HeadOutcome
from fishersft.experiments.label_choice import PRIMARY
from fishersft.numerics.crossed import holm
from fishersft.numerics.over_seeds import mean_over_seeds
from fishersft.numerics.uniform_curve import equivalent_tokens
from fishersft.reporting.comparison import SURE
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.summary import Facts, Interval
from fishersft.reporting.tables import csv_text, markdown_table
from fishersft.reporting.text import count, interval, markdown, number, p_value, percent

_MEANS = ("nats", "accuracy", "labels")
_AGAINST = (
    "Method",
    "Examples",
    "Difference, nats/text [95%]",
    "p",
    "p, corrected",
    "p if splits were independent",
    "Better in",
    "Gains excluded above",
    "Equivalent uniform examples",
    "Verdict",
)
_REACHED = (
    "Method",
    "Examples",
    "Held-out nats/text",
    "Accuracy",
    "Accuracy, difference [95%]",
    "Labels chosen",
    "Ridge, median",
)
_Figures = dict[tuple[str, int], np.ndarray]  # by method and budget: (splits,)


class HeadRow(Facts):
    """A method at a budget against the uniform choice of as many examples, over splits.

    Attributes:
        method, budget: the budget in examples.
        nats, accuracy, labels, ridge: means over splits: held-out nats a text, share right, different labels among the
            chosen, ridge (the median).
        difference: of the nats, under 0 the method is better; the interval counts that splits share texts.
        accuracy_difference: likewise, above 0 the method is better.
        p: of no difference in nats, likewise; `p_corrected` is Holm's over all rows but the primary hypothesis.
        p_if_independent: Student's, as if no two splits shared a text: too small.
        excluded_gain: the gain in nats that a one-sided test at 5% excludes.
        equivalent: how many uniform examples reach the same nats; 0 below the curve's reach, infinity beyond it.
        better_in, splits: in how many splits it was better, of how many.
    """

    method: str
    budget: int
    nats: float
    accuracy: float
    labels: float
    ridge: float
    difference: Interval
    accuracy_difference: Interval
    p: float
    p_corrected: float
    p_if_independent: float
    excluded_gain: float
    equivalent: float
    better_in: int
    splits: int

    @property
    def verdict(self) -> Literal["better", "worse", "not shown to differ"]:
        """By the corrected p-value."""
        if self.p_corrected >= SURE:
            return "not shown to differ"
        return "better" if self.difference.value < 0 else "worse"


def over_splits(splits: Sequence[Sequence[HeadOutcome]], budgets: Sequence[int], shared: float) -> list[HeadRow]:
    """The rows of all methods but uniform, the primary hypothesis first: gradient matching at the largest budget.

    Args:
        splits: the outcomes of each, at least 2, the same methods and budgets in each.
        budgets: at which methods were measured.
        shared: held-out texts for each text of a pool, see `mean_over_seeds`.

    Raises:
        InputError: fewer than 2 splits.
    """
    figures = {
        field: {
            (rows[0].method, rows[0].budget): np.array([getattr(row, field) for row in rows])
            for rows in zip(*splits, strict=True)
        }
        for field in (*_MEANS, "ridge")
    }
    keys = [(row.method, row.budget) for row in splits[0] if row.method != "uniform" and row.budget in budgets]
    primary = (PRIMARY, max(budgets))
    rows = [_row(figures, key, shared) for key in sorted(keys, key=lambda key: (key != primary, key[1]))]
    corrected = [rows[0].p, *holm([row.p for row in rows[1:]])]
    return [row.model_copy(update={"p_corrected": p}) for row, p in zip(rows, corrected, strict=True)]


def headline(primary: HeadRow) -> str:
    """The primary hypothesis in one line."""
    shown = f"{primary.verdict} than" if primary.p_corrected < SURE else "not shown to differ from"
    figures = f"{interval(primary.difference, 3)} nats/text, p {p_value(primary.p)}"
    return f"Primary: {primary.method} at {count(primary.budget)} examples is {shown} uniform: {figures}"


def frozen_features_sheets(rows: Sequence[HeadRow], splits: Sequence[Sequence[HeadOutcome]]) -> list[Sheet]:
    """The tables: every method against uniform, the primary hypothesis first; and what each reaches, uniform last."""
    sizes = [row.budget for row in splits[0] if row.method == "uniform"]
    return [
        Sheet("Against a uniform choice of as many examples", _AGAINST, [_against(row) for row in rows], _AGAINST[-1:]),
        Sheet(
            "Reached, means over splits", _REACHED, [*map(_reached, rows), *(_uniform(size, splits) for size in sizes)]
        ),
    ]


def write_frozen_features(rows: Sequence[HeadRow], splits: Sequence[Sequence[HeadOutcome]], folder: Path) -> None:
    """Writes `frozen-features.md`, the tables, and `splits.csv`, a row a split, method and budget."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"**{markdown(headline(rows[0]))}**"]
    for sheet in frozen_features_sheets(rows, splits):
        parts += [f"## {sheet.title}", markdown_table(sheet)]
    (folder / "frozen-features.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    flat = [{"split": number, **row._asdict()} for number, split in enumerate(splits) for row in split]
    (folder / "splits.csv").write_text(csv_text(flat), encoding="utf-8")


def _row(figures: dict[str, _Figures], key: tuple[str, int], shared: float) -> HeadRow:
    method, budget = key
    nats, accuracy = figures["nats"], figures["accuracy"]
    differences = nats[key] - nats["uniform", budget]
    tested = mean_over_seeds(differences, shared)
    sizes = [multiple * budget for multiple in MULTIPLES]
    curve = np.array([nats["uniform", size].mean() for size in sizes])
    return HeadRow(
        method=method,
        budget=budget,
        nats=float(nats[key].mean()),
        accuracy=float(accuracy[key].mean()),
        labels=float(figures["labels"][key].mean()),
        ridge=float(np.median(figures["ridge"][key])),
        difference=Interval.of(tested),
        accuracy_difference=Interval.of(mean_over_seeds(accuracy[key] - accuracy["uniform", budget], shared)),
        p=tested.p,
        p_corrected=tested.p,
        p_if_independent=mean_over_seeds(differences).p,
        excluded_gain=max(0.0, -tested.bound),
        equivalent=equivalent_tokens(np.array(sizes), curve, float(nats[key].mean())),
        better_in=int((differences < 0).sum()),
        splits=len(differences),
    )


def _against(row: HeadRow) -> Row:
    cells = (
        count(row.budget),
        interval(row.difference, 3),
        p_value(row.p),
        p_value(row.p_corrected),
        p_value(row.p_if_independent),
        f"{row.better_in} of {row.splits}",
        number(row.excluded_gain, 3),
        _equivalent(row),
        row.verdict,
    )
    return Row((row.method,), cells)


def _equivalent(row: HeadRow) -> str:
    """Uniform examples in words where they are beyond the curve."""
    if row.equivalent == 0:
        return f"under {count(row.budget)}"
    if not np.isfinite(row.equivalent):
        return f"over {count(MULTIPLES[-1] * row.budget)}"
    return count(round(row.equivalent))


def _reached(row: HeadRow) -> Row:
    shares = percent(row.accuracy), interval(row.accuracy_difference, 3)
    cells = (count(row.budget), number(row.nats, 3), *shares, number(row.labels, 1), number(row.ridge, 0))
    return Row((row.method,), cells)


def _uniform(size: int, splits: Sequence[Sequence[HeadOutcome]]) -> Row:
    rows = [row for split in splits for row in split if (row.method, row.budget) == ("uniform", size)]
    nats, accuracy, labels = (float(np.mean([getattr(row, name) for row in rows])) for name in _MEANS)
    ridge = float(np.median([row.ridge for row in rows]))
    cells = (count(size), number(nats, 3), percent(accuracy), number(None), number(labels, 1), number(ridge, 0))
    return Row(("uniform",), cells)
