"""Writing a comparison: its page, its tables as Markdown and CSV, its figure and its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fishersft.reporting import comparison_sheets as sheets
from fishersft.reporting.comparison import Comparison, Versus
from fishersft.reporting.figures import PALETTE, figure_style, svg, wrapped
from fishersft.reporting.page import image_source, page_environment
from fishersft.reporting.tables import csv_text, markdown_table
from fishersft.reporting.text import interval, markdown

_WIDTH = 6.4  # inches


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write a comparison into a folder, which is made if need be; the same comparison gives the same bytes.

    Files: `comparison.json` (the `Comparison`), `comparison.csv` (a row a method, budget and basis), `trainings.csv` (a
    row a training: method or control, budget, seed), `comparison.md` (the tables), `differences.svg`, and last
    `index.html`, which needs none of the others.

    Returns:
        The path of `index.html`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_bytes((comparison.model_dump_json(indent=2) + "\n").encode("utf-8"))
    (folder / "comparison.csv").write_bytes(csv_text([_flat(item) for item in comparison.versus]).encode("utf-8"))
    trainings = [training.model_dump() for training in comparison.trainings]
    (folder / "trainings.csv").write_bytes(csv_text(trainings).encode("utf-8"))
    (folder / "comparison.md").write_bytes(comparison_markdown(comparison).encode("utf-8"))
    drawing = svg(differences(comparison))
    (folder / "differences.svg").write_bytes(drawing)
    page = folder / "index.html"
    page.write_bytes(_html(comparison, drawing).encode("utf-8"))
    return page


def comparison_markdown(comparison: Comparison) -> str:
    """The headline, the warnings and all tables, as Markdown."""
    parts = [f"# {markdown(comparison.name)}", f"**{markdown(comparison.headline)}**"]
    if comparison.warnings:
        parts.append("\n".join(f"- **Warning:** {markdown(warning)}" for warning in comparison.warnings))
    for sheet in _sheets(comparison):
        if not sheet.rows:  # nothing was judged, or compared at equal sentences
            continue
        parts += [f"## {sheet.title}", markdown_table(sheet)]
    return "\n\n".join(parts) + "\n"


@figure_style()
def differences(comparison: Comparison) -> Figure:
    """The difference of each method from a uniform choice, with its interval, at every budget and basis."""
    items = sorted(comparison.versus, key=lambda item: (item.budget, comparison.versus.index(item)))
    methods = list(dict.fromkeys(item.method for item in items))
    figure = Figure(figsize=(_WIDTH, 1.3 + 0.42 * len(items)), layout="constrained")
    figure.suptitle("Held-out likelihood beside a uniform choice", x=0.02, ha="left", fontsize=11.5, fontweight="bold")
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=1)
    for row, item in enumerate(items):
        color = PALETTE[methods.index(item.method) % len(PALETTE)]
        face = color if item.basis == "tokens and steps" else "white"
        axes.plot([item.mean.low, item.mean.high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([item.mean.value], [row], color=color, marker="o", markersize=8, markerfacecolor=face)
    axes.set_yticks(range(len(items)), [_row_label(item, comparison) for item in items])
    axes.set_ylim(len(items) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel("difference in nats a token, with 95% interval (under 0: better)")
    return figure


def _row_label(item: Versus, comparison: Comparison) -> str:
    basis = "equal tokens" if item.basis == "tokens and steps" else "equal sentences"
    return f"{wrapped(item.method)}, {item.budget:,} {comparison.unit}\n{basis}"


def _html(comparison: Comparison, drawing: bytes) -> str:
    summary, fair, by_sentences, groups, *duels, arms, trainings, judges = _sheets(comparison)
    told = "; ".join(f"{_row_label(item, comparison)}: {interval(item.mean, 3)}" for item in comparison.versus)
    config = comparison.model_dump(mode="json")["config"]
    return page_environment().get_template("comparison.html.j2").render(
        comparison=comparison,
        summary=summary,
        fair=fair,
        by_sentences=by_sentences,
        groups=groups,
        duels=duels,
        arms=arms,
        trainings=trainings,
        judges=judges,
        colors={},
        figure=image_source(drawing),
        alt=f"Differences from a uniform choice in nats a token: {told}.".replace("\n", ", "),
        config_yaml=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def _sheets(comparison: Comparison) -> list[sheets.Sheet]:
    return [
        sheets.summary(comparison),
        sheets.versus(comparison, "tokens and steps"),
        sheets.versus(comparison, "sentences"),
        sheets.groups(comparison),
        *sheets.duels(comparison),
        sheets.arms(comparison),
        sheets.trainings(comparison),
        sheets.judges(comparison),
    ]


def _flat(item: Versus) -> dict[str, Any]:
    """A comparison as one row: an interval as three columns."""
    row: dict[str, Any] = {}
    for name, value in item.model_dump().items():
        if isinstance(value, dict):
            row |= {name if part == "value" else f"{name}_{part}": figure for part, figure in value.items()}
        elif name in ("worst_tenth", "win_rate"):
            row |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        else:
            row[name] = value
    return {**row, "verdict": item.verdict}
