"""The run's tables for the terminal and for Prefect's UI."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from fishersft.reporting import sheets
from fishersft.reporting.summary import ChosenRow, RunReport
from fishersft.reporting.text import count, markdown, number, one_line

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 60


def summary_table(report: RunReport) -> Table:
    """The key numbers for the terminal, under the run's name and over its headline."""
    sheet = sheets.key_numbers(report)
    # Text, not str, throughout: no name is ever read as rich's markup.
    table = Table(title=Text(one_line(report.name)), caption=Text(one_line(report.headline)))
    for column in sheet.columns:
        table.add_column(Text(column), justify="left" if column == sheet.columns[0] else "right")
    for row in sheet.rows:
        table.add_row(*(Text(one_line(cell)) for cell in (row.heading, *row.cells)))
    return table


def sheet_table(sheet: sheets.Sheet) -> Table:
    """A table for the terminal, under its title."""
    table = Table(title=Text(sheet.title))
    for column in sheet.columns:
        words = column == sheet.columns[0] or column in sheet.words
        table.add_column(Text(column), justify="left" if words else "right")
    for row in sheet.rows:
        table.add_row(*(Text(one_line(cell)) for cell in (row.heading, *row.cells)))
    return table


def summary_markdown(report: RunReport) -> str:
    """The headline, the warnings, the key numbers, the comparisons, what the run did and its costs, as Markdown."""
    parts = [f"# {markdown(report.name)}", f"**{markdown(report.headline)}**"]
    parts += [markdown(chosen.certificate) for chosen in report.selections if chosen.certificate]
    if report.warnings:
        parts.append("\n".join(f"- **Warning:** {markdown(warning)}" for warning in report.warnings))
    for make in (
        sheets.key_numbers,
        sheets.comparisons,
        sheets.win_rates,
        sheets.judges,
        sheets.harness,
        sheets.selection,
        sheets.corpus,
        sheets.growth,
        sheets.store_use,
        sheets.costs,
    ):
        sheet = make(report)
        if sheet.rows:
            parts += [f"## {sheet.title}", markdown_table(sheet)]
    return "\n\n".join(parts) + "\n"


def chosen_rows(chosen: Sequence[ChosenRow]) -> list[dict[str, Any]]:
    """What was chosen, a dict a sentence, for a Prefect table artifact."""
    return [
        {
            "rank": row.rank,
            "id": row.id,
            "gain (nats)": round(row.gain, 4),
            "tokens": row.tokens,
            "text": one_line(row.text),
            "source": one_line(row.source),
            "row": row.row,
        }
        for row in chosen
    ]


def sheet_rows(sheet: sheets.Sheet) -> list[dict[str, Any]]:
    """A table, a dict a row, for a Prefect table artifact."""
    return [dict(zip(sheet.columns, (row.heading, *row.cells), strict=True)) for row in sheet.rows]


def losses_markdown(
    steps_per_epoch: int, losses: Sequence[tuple[int, float]], held_out_losses: Sequence[tuple[int, float]]
) -> str:
    """A training's losses as Markdown: a curve over its steps, and a table of its epochs, in nats a token.

    Args:
        steps_per_epoch: optimiser steps in an epoch.
        losses: (step, training loss).
        held_out_losses: (an epoch's last step, held-out loss); empty where that was not measured.
    """
    held_out = dict(held_out_losses)
    rows = []
    for epoch in range(1, losses[-1][0] // steps_per_epoch + 1):
        end = epoch * steps_per_epoch
        of_epoch = [loss for step, loss in losses if end - steps_per_epoch < step <= end]
        cells = (count(end), number(sum(of_epoch) / len(of_epoch), 3), number(held_out.get(end), 3))
        rows.append(sheets.Row((str(epoch),), cells))
    sheet = sheets.Sheet("Losses", ("Epoch", "Steps", "Training loss", "Held-out loss"), rows)
    return f"Training loss: `{curve([loss for _, loss in losses])}`\n\n{markdown_table(sheet)}\n"


def curve(values: Sequence[float]) -> str:
    """Finite values as a line of bars, in at most 60 characters: each is the mean of as many values as it stands for.

    >>> curve([4, 3, 2, 1])
    '█▅▃▁'
    """
    parts = np.array_split(np.asarray(values, dtype=np.float64), min(len(values), _CURVE_WIDTH))
    means = np.array([part.mean() for part in parts])
    heights = (means - means.min()) / (np.ptp(means) or 1.0) * (len(_BARS) - 1)
    return "".join(_BARS[int(height)] for height in heights)


def markdown_table(sheet: sheets.Sheet) -> str:
    """A table as Markdown, whatever its cells hold."""
    others = sheet.columns[1:]
    lines = [sheet.columns, (":---", *(":---" if column in sheet.words else "---:" for column in others))]
    rows = [*sheet.rows, *([sheet.total] if sheet.total else [])]
    lines += [tuple(markdown(cell) for cell in (row.heading, *row.cells)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the first row's names as its head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
