"""The run's tables for the terminal and for Prefect's UI."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from fishersft.reporting import sheets
from fishersft.reporting.summary import RunReport
from fishersft.reporting.text import markdown, one_line


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


def chosen_rows(report: RunReport) -> list[dict[str, Any]]:
    """What was chosen, a dict a sentence, for a Prefect table artifact."""
    return [
        {
            "rank": row.rank,
            "gain (nats)": round(row.gain, 4),
            "tokens": row.tokens,
            "source": one_line(row.source),
            "row": row.row,
            "text": one_line(row.text),
        }
        for row in report.chosen
    ]


def store_rows(report: RunReport) -> list[dict[str, Any]]:
    """What the run found in the store and what it made, a dict a kind, for a Prefect table artifact."""
    return sheet_rows(sheets.store_use(report))


def sheet_rows(sheet: sheets.Sheet) -> list[dict[str, Any]]:
    """A table, a dict a row, for a Prefect table artifact."""
    return [dict(zip(sheet.columns, (row.heading, *row.cells), strict=True)) for row in sheet.rows]


def markdown_table(sheet: sheets.Sheet) -> str:
    """A table as Markdown, whatever its cells hold."""
    others = sheet.columns[1:]
    lines = [sheet.columns, (":---", *(":---" if column in sheet.words else "---:" for column in others))]
    rows = [*sheet.rows, *([sheet.total] if sheet.total else [])]
    lines += [tuple(markdown(cell) for cell in (row.heading, *row.cells)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
