"""The HTML report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from fishersft.reporting import sheets
from fishersft.reporting.figures import NEUTRAL, method_colors, plots, svg
from fishersft.reporting.summary import RunReport
from fishersft.reporting.text import count, number, visible


def render_html(report: RunReport) -> str:
    """The report as one self-contained HTML page.

    Every text of the corpus, the models and the configuration is escaped and its control characters shown;
    the page forbids scripts and requests by its Content-Security-Policy, and embeds its figures as images.
    """
    config = report.model_dump(mode="json")["config"]
    return page_environment().get_template("report.html.j2").render(
        report=report,
        sheets=sheets,
        colors={"pool": NEUTRAL, **method_colors(report)},
        figures=_figures(report),
        config_yaml=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def page_environment() -> Environment:
    """Templates of pages: all that they print is escaped and made visible."""
    environment = Environment(
        loader=PackageLoader("fishersft.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # All that is printed passes here, so no field can be forgotten; Markup is our own macros' output.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(count=count, number=number)
    return environment


def image_source(drawing: bytes) -> str:
    """An SVG file as the source of an image: inlined, the ids inside two drawings would meet in one page."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode("ascii")


def figures_markdown(figures: Sequence[tuple[Figure, str]]) -> str:
    """Figures, each with a line on how to read it, as Markdown that holds them: who shows it can reach no file."""
    return "\n\n".join(f"![]({image_source(svg(figure))})\n\n{reading}" for figure, reading in figures) + "\n"


def _figures(report: RunReport) -> list[dict[str, str]]:
    return [
        {
            "source": image_source(svg(plot.draw(report))),
            "alt": plot.alt(report),
            "reading": plot.reading,
        }
        for plot in plots(report)
    ]
