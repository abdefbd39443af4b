"""Store: removing from an artifact store what nobody needs any more."""

from __future__ import annotations

from typing import Annotated

from prefect import State
from prefect.states import Cancelled
from pydantic import Field

from fishersft.config.fields import NoCredentials
from fishersft.data.claims import AtWork
from fishersft.steps.collecting import Collected
from fishersft.steps.outcome import open_store
from tasks.checked import flow
from tasks.collecting import remove_unneeded
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors
from tasks.overlap import alone

shorten_input_errors()


# In the run form Prefect titles a parameter by its name, whatever its Field's title is; the schema's is left.
@flow(name="store", flow_run_name="gc-older-than-{older_than}")
def gc(
    store: Annotated[str, NoCredentials, Field(min_length=1, json_schema_extra={"title": "Store"})],
    keep_runs: Annotated[int, Field(ge=1, json_schema_extra={"title": "Runs to keep"})] = 3,
    older_than: Annotated[str, Field(pattern=r"^\d{1,5}[dh]$", json_schema_extra={"title": "Older than"})] = "30d",
) -> Collected | State[AtWork]:
    """Removes what no kept run, no tag and no run at work needs, with all that those came from.

    It may run while other flows do: a run at work keeps all that it found, and all that was written since it began.

    Args:
        store: Where artifacts are cached: a folder or an s3:// URL.
        keep_runs: What the last so many finished runs of every name found or made stays.
        older_than: Only what was written longer ago goes: days or hours, such as 30d or 12h, 99999 at most.
    """
    with guarded_run():
        try:
            with alone(open_store(store), "gc", wait=False):
                return remove_unneeded(store, keep_runs, older_than)
        except AtWork as at_work:
            return Cancelled(message=str(at_work), data=at_work)
