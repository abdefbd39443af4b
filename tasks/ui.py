"""What a run leaves in Prefect's UI: a summary, tables of steps and of chosen examples, and a link to the report."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from fishersft.config import CurateConfig
from fishersft.data.locations import absolute_url
from fishersft.reporting.tables import chosen_rows, summary_markdown
from fishersft.reporting.text import markdown
from fishersft.steps.outcome import RunResult, open_store
from fishersft.steps.publishing import output_folder
from fishersft.steps.reporting import load_report


def show_run(config: CurateConfig, result: RunResult) -> None:
    """Creates the artifacts of a finished run in the UI."""
    report = load_report(open_store(config.store), result.report)
    prefix = f"curate-{config.name}"
    create_markdown_artifact(summary_markdown(report), key=f"{prefix}-summary", description=markdown(report.headline))
    create_table_artifact(chosen_rows(report), key=f"{prefix}-chosen", description="The first chosen examples")
    create_table_artifact(_step_rows(result), key=f"{prefix}-steps", description="Found in the store, or made")
    url = absolute_url(f"{output_folder(config, 'report')}/index.html")
    create_link_artifact(url, link_text="Report", key=f"{prefix}-report", description="The whole report")


def _step_rows(result: RunResult) -> list[dict[str, Any]]:
    return [
        {
            "step": step.kind,
            "key": step.key[:12],
            "store": "found" if step.hit else "made",
            "seconds to make": step.seconds,
        }
        for step in result.steps
    ]
