"""What a run leaves in Prefect's UI: its tags, a summary, losses, tables, figures, warnings, where its report is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig
from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.data.locations import absolute_url
from fishersft.experiments.speed import Timing
from fishersft.reporting import sheets
from fishersft.reporting.comparison_page import comparison_markdown, differences
from fishersft.reporting.comparison_sheets import duels, versus
from fishersft.reporting.figures import plots
from fishersft.reporting.page import figures_markdown
from fishersft.reporting.proposal import Proposal, proposal_markdown
from fishersft.reporting.simulation_page import figures as simulation_figures
from fishersft.reporting.simulation_page import simulation_markdown
from fishersft.reporting.speed import speed_sheet
from fishersft.reporting.summary import ThisRun
from fishersft.reporting.tables import chosen_rows, losses_markdown, sheet_rows, summary_markdown
from fishersft.reporting.text import markdown
from fishersft.steps.comparing import load_comparison
from fishersft.steps.outcome import RunResult, open_store
from fishersft.steps.publishing import output_folder
from fishersft.steps.reporting import load_report
from fishersft.steps.simulating import load_simulation


def tag_run(*tags: str) -> None:
    """Adds tags to the flow run, by which the UI finds runs of a kind."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), tags=sorted({*flow_run.tags, *tags}))


def show_proposal(config: CurateConfig, proposal: Proposal) -> None:
    """Creates the artifacts of what a run would train on, for who has to approve it."""
    prefix = f"curate-{config.name}"
    told = proposal_markdown(proposal)
    create_markdown_artifact(told, key=f"{prefix}-proposal", description="What would be trained on, and its cost")
    shown = f"The first {len(proposal.rows):,} of {len(proposal.ids):,} chosen examples, with their ids"
    create_table_artifact(chosen_rows(proposal.rows), key=f"{prefix}-proposed", description=shown)


def show_comparison(config: CompareConfig, result: RunResult) -> None:
    """Creates the artifacts of a finished comparison in the UI."""
    comparison = load_comparison(open_store(config.store), result.report)
    prefix = f"compare-{config.name}"
    place = _place("The whole comparison", f"{output_folder(config, 'comparison')}/index.html")
    told = markdown(comparison.headline)
    create_markdown_artifact(comparison_markdown(comparison) + place, key=f"{prefix}-summary", description=told)
    for basis, key in (("tokens and steps", "equal-tokens"), ("sentences", "equal-sentences")):
        if (sheet := versus(comparison, basis)).rows:  # type: ignore[arg-type]
            _table(sheet, f"{prefix}-{key}")
    for sheet, key in zip(duels(comparison), ("win-rates", "likelihoods"), strict=False):
        _table(sheet, f"{prefix}-{key}")
    figure = figures_markdown([(differences(comparison), "A bar that crosses the line shows no difference.")])
    create_markdown_artifact(figure, key=f"{prefix}-figure", description="Differences from a uniform choice")
    create_markdown_artifact(place, key=f"{prefix}-page", description="Where the whole comparison is")
    _tell(comparison.headline, comparison.warnings)


def show_simulation(config: SimulationConfig, result: RunResult) -> None:
    """Creates the artifacts of a finished simulation in the UI."""
    simulation = load_simulation(open_store(config.store), result.report)
    prefix = f"simulate-{config.name}"
    place = _place("The whole page", f"{output_folder(config, config.name)}/index.html")
    told = markdown(simulation.headline)
    create_markdown_artifact(simulation_markdown(simulation) + place, key=f"{prefix}-summary", description=told)
    drawn = figures_markdown([(draw(simulation), reading) for _, draw, reading in simulation_figures(simulation)])
    create_markdown_artifact(drawn, key=f"{prefix}-figures", description="Errors of every method")
    _tell(simulation.headline, [])


def show_speed(config: SpeedConfig, found: Sequence[Timing]) -> None:
    """Creates the artifact of a finished speed trial in the UI."""
    _table(speed_sheet(found), f"speed-{config.name}")


def show_run(config: CurateConfig, result: RunResult, this_run: ThisRun) -> None:
    """Creates the artifacts of a finished run in the UI."""
    report = load_report(open_store(config.store), result.report).model_copy(update={"this_run": this_run})
    prefix = f"curate-{config.name}"
    place = _place("The whole report", f"{output_folder(config, 'report')}/index.html")
    told = markdown(report.headline)
    create_markdown_artifact(summary_markdown(report) + place, key=f"{prefix}-summary", description=told)
    chosen = f"The first {len(report.chosen):,} chosen examples, with the ids that selection.exclude takes"
    create_table_artifact(chosen_rows(report.chosen), key=f"{prefix}-chosen", description=chosen)
    _table(sheets.store_use(report), f"{prefix}-store")
    _table(sheets.comparisons(report), f"{prefix}-likelihood")
    _table(sheets.win_rates(report), f"{prefix}-win-rates")
    figures = figures_markdown([(plot.draw(report), plot.reading) for plot in plots(report)])
    create_markdown_artifact(figures, key=f"{prefix}-figures", description="The report's figures")
    create_markdown_artifact(place, key=f"{prefix}-report", description="Where the whole report is")
    _tell(report.headline, report.warnings)


def show_losses(config: CurateConfig, method: str, facts: dict[str, Any]) -> None:
    """Creates the artifact of a training's losses in the UI, as soon as it is done."""
    held_out = facts.get("held_out_losses", [])  # trainings of before there was early stopping have none
    create_markdown_artifact(
        losses_markdown(facts["steps_per_epoch"], facts["losses"], held_out),
        key=f"curate-{config.name}-losses-{re.sub('[^a-z0-9]+', '-', method.lower())}",
        description=f"Losses of fine-tuning on {markdown(method)}",
    )


def _table(sheet: sheets.Sheet, key: str) -> None:
    create_table_artifact(sheet_rows(sheet), key=key, description=sheet.title)


def _place(what: str, path: str) -> str:
    """Where a page is, as Markdown: in words, as browsers follow no link from a web page to a file or a bucket."""
    return f"{what}: `{absolute_url(path).removeprefix('file://')}`\n"


def _tell(headline: str, warnings: Sequence[str]) -> None:
    """What came of a run, in its log."""
    logger = get_run_logger()
    logger.info("%s", headline)
    for warning in warnings:
        logger.warning("%s", warning)
