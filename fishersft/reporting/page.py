"""The HTML report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
from importlib import resources

import yaml
from jinja2 import Environment, StrictUndefined

from fishersft.reporting import sheets
from fishersft.reporting.figures import NEUTRAL, method_colors, plots, svg
from fishersft.reporting.summary import RunReport
from fishersft.reporting.text import count, number, visible


def render_html(report: RunReport) -> str:
    """The report as one self-contained HTML page.

    Every text of the corpus, the models and the configuration is escaped and its control characters shown;
    the page forbids scripts and requests by its Content-Security-Policy, and embeds its figures as images.
    """
    template = resources.files("fishersft.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    config = report.model_dump(mode="json")["config"]
    return _environment().from_string(template).render(
        report=report,
        sheets=sheets,
        colors={"pool": NEUTRAL, **method_colors(report)},
        figures=_figures(report),
        config_yaml=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # All that is printed passes here, so no field can be forgotten; Markup is our own macros' output.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(count=count, number=number)
    return environment


def _figures(report: RunReport) -> list[dict[str, str]]:
    """Images, not inline SVG: the ids inside two inlined drawings would meet in one page."""
    return [
        {
            "source": "data:image/svg+xml;base64," + base64.b64encode(svg(plot.draw(report))).decode("ascii"),
            "alt": plot.alt(report),
            "reading": plot.reading,
        }
        for plot in plots(report)
    ]
