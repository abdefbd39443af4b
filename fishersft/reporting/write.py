"""Writing the report's files: the page, its data and its figures."""

from __future__ import annotations

from pathlib import Path

from fishersft.reporting.figures import plots, svg
from fishersft.reporting.page import render_html
from fishersft.reporting.summary import RunReport
from fishersft.reporting.tables import csv_text


def write_report(report: RunReport, folder: Path) -> Path:
    """Write the report into a folder, which is made if need be; the same report gives the same bytes.

    Files: `report.json` (the `RunReport`), `figures/NAME.svg` and `figures/NAME.csv` (the data behind each
    figure), and last `index.html`, which needs none of the others.

    Returns:
        The path of `index.html`.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for plot in plots(report):
        (figures / f"{plot.name}.svg").write_bytes(svg(plot.draw(report)))
        (figures / f"{plot.name}.csv").write_bytes(csv_text(plot.rows(report)).encode("utf-8"))
    (folder / "report.json").write_bytes((report.model_dump_json(indent=2) + "\n").encode("utf-8"))
    page = folder / "index.html"
    page.write_bytes(render_html(report).encode("utf-8"))
    return page
