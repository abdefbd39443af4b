"""Events that a run emits for automations to act on."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.runtime import flow_run

from fishersft.config import CurateConfig
from fishersft.reporting.summary import RunReport
from fishersft.steps.outcome import open_store
from fishersft.steps.reporting import load_report

NOT_BETTER = "fishersft.selection.not-better"


def tell_if_not_better(config: CurateConfig, report: str) -> None:
    """Emits `NOT_BETTER`, with the report's headline, where the selection is not shown to beat a uniform choice."""
    found = load_report(open_store(config.store), report)
    if is_better(found):
        return
    emit_event(
        NOT_BETTER,
        resource={
            "prefect.resource.id": f"prefect.flow-run.{flow_run.get_id()}",
            "prefect.resource.name": flow_run.get_name() or "",
            "fishersft.headline": found.headline,
        },
        payload={"headline": found.headline, "perplexity-ratio": found.comparisons[0].perplexity_ratio.value},
    )


def is_better(report: RunReport) -> bool:
    """Whether the whole interval of the perplexity's ratio to a uniform choice of as many tokens is under 1."""
    return report.comparisons[0].perplexity_ratio.high < 1
