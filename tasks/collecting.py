"""The task of garbage collection, and what it shows in Prefect's UI."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from rich.filesize import decimal

from fishersft.data.collecting import find_waste
from fishersft.steps.collecting import Collected, age, collect, waste_by_kind
from fishersft.steps.outcome import open_store
from tasks.progress import Progress
from tasks.step import step


@step("remove what nobody needs")
def remove_unneeded(store: str, keep_runs: int, older_than: str) -> Collected:
    """Removes what no kept run, no tag and no run at work needs; a table of it goes to the UI."""
    opened, oldest = open_store(store), age(older_than)
    waste = find_waste(opened, keep_runs, oldest)
    rows = [
        {"kind": kind, "number": number, "size": "" if size is None else decimal(size)}
        for kind, number, size in waste_by_kind(waste)
    ]
    collected = collect(opened, waste, oldest, Progress("removing", "folders"))
    said = f"{collected.removed:,} artifacts removed, {collected.stayed:,} stayed as a run has come to need them"
    create_table_artifact(rows or [{"kind": "nothing to remove"}], key="store-gc", description=said)
    get_run_logger().info("%s; %s copies on this machine were not of use lately and went too", said, collected.copies)
    return collected
