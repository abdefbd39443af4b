"""Writing a simulation: its page, its tables as Markdown and CSV, its figures and its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from fishersft.reporting.figures import PALETTE, figure_style, svg
from fishersft.reporting.page import image_source, page_environment
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.simulation import MEASURES, ErrorRow, Measure, Simulation
from fishersft.reporting.tables import csv_text, markdown_table
from fishersft.reporting.text import count, interval, markdown, p_value

_WIDTH, _HEIGHT = 7.2, 3.4  # inches
_MARKERS = "osD^vPX"


def write_simulation(simulation: Simulation, folder: Path) -> Path:
    """Write a simulation into a folder, which is made if need be; the same simulation gives the same bytes.

    Files: `simulation.json` (the `Simulation`), `errors.csv` (a row a problem, method and budget), `simulation.md` (the
    tables), `NAME.svg` (the figures), and last `index.html`, which needs none of the others.

    Returns:
        The path of `index.html`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {name: (svg(draw(simulation)), reading) for name, draw, reading in figures(simulation)}
    for name, (drawing, _) in drawings.items():
        (folder / f"{name}.svg").write_bytes(drawing)
    (folder / "simulation.json").write_bytes((simulation.model_dump_json(indent=2) + "\n").encode("utf-8"))
    (folder / "errors.csv").write_bytes(csv_text([_flat(row) for row in simulation.rows]).encode("utf-8"))
    (folder / "simulation.md").write_bytes(simulation_markdown(simulation).encode("utf-8"))
    page = folder / "index.html"
    page.write_bytes(_html(simulation, drawings).encode("utf-8"))
    return page


def sheets(simulation: Simulation) -> list[Sheet]:
    """The tables: errors by budget, by dimension and classes where there are several, and slopes."""
    dim, classes = simulation.main[0].dim, simulation.main[0].classes
    problem = f"{dim} dimensions, {classes} classes"
    tables = [_errors(f"Errors, {problem}", simulation.main, ("Method", "Sentences"), lambda row: (count(row.budget),))]
    if len(simulation.trends) > len({row.method for row in simulation.trends}):
        title = f"Errors of {count(simulation.trends[0].budget)} sentences, other problems"
        about = ("Method", "Dimensions", "Classes")
        tables.append(_errors(title, simulation.trends, about, lambda row: (count(row.dim), count(row.classes))))
    if simulation.slopes:
        rows = [Row((s.method,), (interval(s.max_error), interval(s.mean_error))) for s in simulation.slopes]
        columns = ("Method", "Largest error [interval]", "Mean error [interval]")
        tables.append(Sheet("Slope of log error over log budget", columns, rows))
    return tables


def simulation_markdown(simulation: Simulation) -> str:
    """The headline and all tables, as Markdown."""
    parts = [f"# {markdown(simulation.name)}", f"**{markdown(simulation.headline)}**"]
    for sheet in sheets(simulation):
        parts += [f"## {sheet.title}", markdown_table(sheet)]
    return "\n\n".join(parts) + "\n"


def figures(simulation: Simulation) -> list[tuple[str, Callable[[Simulation], Figure], str]]:
    """Every figure: its name, what draws it, and how to read it."""
    found: list[tuple[str, Callable[[Simulation], Figure], str]] = []
    if len({row.budget for row in simulation.main}) > 1:
        found.append(("errors", by_budget, "Errors fall with the budget; bars are 95% intervals over the seeds."))
    largest = f"At {count(simulation.trends[0].budget)} sentences; bars are 95% intervals over the seeds."
    if len({row.dim for row in simulation.trends}) > 1:
        found.append(("dimensions", by_dimensions, largest))
    if len({row.classes for row in simulation.trends}) > 1:
        found.append(("classes", by_classes, largest))
    return found


def by_budget(simulation: Simulation) -> Figure:
    """Both errors against the budget, on logarithmic axes."""
    return _curves(simulation.main, lambda row: row.budget, "sentences chosen", logarithmic=True)


def by_dimensions(simulation: Simulation) -> Figure:
    """Both errors against the number of dimensions."""
    classes = simulation.main[0].classes
    rows = [row for row in simulation.trends if row.classes == classes]
    return _curves(rows, lambda row: row.dim, "dimensions", logarithmic=False)


def by_classes(simulation: Simulation) -> Figure:
    """Both errors against the number of classes."""
    dim = simulation.main[0].dim
    rows = [row for row in simulation.trends if row.dim == dim]
    return _curves(rows, lambda row: row.classes, "classes", logarithmic=False)


@figure_style()
def _curves(rows: Sequence[ErrorRow], place: Callable[[ErrorRow], int], label: str, logarithmic: bool) -> Figure:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2)
    for axes, measure in zip(panels, MEASURES, strict=True):
        _panel(axes, rows, place, measure)
        axes.set_xlabel(label)
        axes.set_ylabel(MEASURES[measure])
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.xaxis.set_major_locator(FixedLocator(sorted({place(row) for row in rows})))
        axes.xaxis.set_major_formatter(ScalarFormatter())
    panels[0].legend(loc="best", fontsize=8)
    return figure


def _panel(axes: Axes, rows: Sequence[ErrorRow], place: Callable[[ErrorRow], int], measure: Measure) -> None:
    for order, method in enumerate(dict.fromkeys(row.method for row in rows)):
        own = sorted((row for row in rows if row.method == method), key=place)
        estimates = [getattr(row, measure) for row in own]
        values = [estimate.value for estimate in estimates]
        reach = [[each.value - each.low for each in estimates], [each.high - each.value for each in estimates]]
        axes.errorbar(
            [place(row) for row in own],
            values,
            yerr=reach,
            label=method,
            capsize=2,
            markersize=5,
            color=PALETTE[order % len(PALETTE)],
            marker=_MARKERS[order % len(_MARKERS)],
        )


def _errors(
    title: str, rows: Sequence[ErrorRow], about: tuple[str, ...], place: Callable[[ErrorRow], tuple[str, ...]]
) -> Sheet:
    columns = (
        *about,
        "Largest error [interval]",
        "By the first's [interval]",
        "p, corrected",
        "Mean error [interval]",
        "By the first's mean [interval]",
        "Its p, corrected",
    )
    cells = [
        Row(
            (row.method,),
            (
                *place(row),
                interval(row.max_error),
                interval(row.max_ratio, 3),
                p_value(row.max_p),
                interval(row.mean_error),
                interval(row.mean_ratio, 3),
                p_value(row.mean_p),
            ),
        )
        for row in rows
    ]
    return Sheet(title, columns, cells)


def _html(simulation: Simulation, drawings: dict[str, tuple[bytes, str]]) -> str:
    return page_environment().get_template("simulation.html.j2").render(
        simulation=simulation,
        sheets=sheets(simulation),
        figures=[
            {"source": image_source(drawing), "alt": f"{name}, with the tables' figures", "reading": reading}
            for name, (drawing, reading) in drawings.items()
        ],
        colors={},
        config_yaml=yaml.safe_dump(simulation.config, sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def _flat(row: ErrorRow) -> dict[str, Any]:
    """A row with each interval as three columns."""
    flat: dict[str, Any] = {name: getattr(row, name) for name in ("method", "dim", "classes", "budget")}
    for name in ("max_error", "mean_error", "max_ratio", "mean_ratio"):
        estimate = getattr(row, name)
        for part, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
            flat[column] = None if estimate is None else getattr(estimate, part)
    return {**flat, "max_p": row.max_p, "mean_p": row.mean_p}
