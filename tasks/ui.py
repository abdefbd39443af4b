"""What a run leaves in Prefect's UI: a summary, losses, tables of steps and chosen examples, a link to the report."""

from __future__ import annotations

import re
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig
from fishersft.data.locations import absolute_url
from fishersft.reporting.comparison_page import comparison_markdown
from fishersft.reporting.comparison_sheets import versus
from fishersft.reporting.summary import ThisRun
from fishersft.reporting.tables import chosen_rows, losses_markdown, sheet_rows, store_rows, summary_markdown
from fishersft.reporting.text import markdown
from fishersft.steps.comparing import load_comparison
from fishersft.steps.outcome import RunResult, open_store
from fishersft.steps.publishing import output_folder
from fishersft.steps.reporting import load_report


def show_comparison(config: CompareConfig, result: RunResult) -> None:
    """Creates the artifacts of a finished comparison in the UI."""
    comparison = load_comparison(open_store(config.store), result.report)
    prefix = f"compare-{config.name}"
    told = markdown(comparison.headline)
    create_markdown_artifact(comparison_markdown(comparison), key=f"{prefix}-summary", description=told)
    for basis, key in (("tokens and steps", "equal-tokens"), ("sentences", "equal-sentences")):
        sheet = versus(comparison, basis)  # type: ignore[arg-type]
        create_table_artifact(sheet_rows(sheet), key=f"{prefix}-{key}", description=sheet.title)
    url = absolute_url(f"{output_folder(config, 'comparison')}/index.html")
    create_link_artifact(url, link_text="Comparison", key=f"{prefix}-page", description="The whole comparison")


def show_run(config: CurateConfig, result: RunResult, this_run: ThisRun) -> None:
    """Creates the artifacts of a finished run in the UI."""
    report = load_report(open_store(config.store), result.report).model_copy(update={"this_run": this_run})
    prefix = f"curate-{config.name}"
    create_markdown_artifact(summary_markdown(report), key=f"{prefix}-summary", description=markdown(report.headline))
    create_table_artifact(chosen_rows(report), key=f"{prefix}-chosen", description="The first chosen examples")
    create_table_artifact(store_rows(report), key=f"{prefix}-store", description="Found in the store, or made")
    url = absolute_url(f"{output_folder(config, 'report')}/index.html")
    create_link_artifact(url, link_text="Report", key=f"{prefix}-report", description="The whole report")


def show_losses(config: CurateConfig, method: str, facts: dict[str, Any]) -> None:
    """Creates the artifact of a training's losses in the UI, as soon as it is done."""
    held_out = facts.get("held_out_losses", [])  # trainings of before there was early stopping have none
    create_markdown_artifact(
        losses_markdown(facts["steps_per_epoch"], facts["losses"], held_out),
        key=f"curate-{config.name}-losses-{re.sub('[^a-z0-9]+', '-', method.lower())}",
        description=f"Losses of fine-tuning on {markdown(method)}",
    )
