"""One automation, made or brought up to date by its name."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.utilities.urls import url_for

from deployments.changes import Change, What


def register_automation(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    """Makes the automation, or changes the one of that name; one that is as wanted is left alone."""
    there = next(iter(client.read_automations_by_name(wanted.name)), None)
    what: What = "made"
    if there is None:
        identifier = client.create_automation(wanted)
    else:
        identifier, what = there.id, _brought_up_to_date(client, there, wanted)
    return Change("automation", wanted.name, what, url_for("automation", obj_id=identifier) or "")


def remove_others(client: SyncPrefectClient, prefix: str, wanted: set[str]) -> list[Change]:
    """Removes the automations whose names begin so and are not wanted, such as notices that nobody takes any more."""
    changes = []
    for automation in client.read_automations():
        if automation.name.startswith(prefix) and automation.name not in wanted:
            client.delete_automation(automation.id)
            changes.append(Change("automation", automation.name, "removed", ""))
    return changes


def _brought_up_to_date(client: SyncPrefectClient, there: Automation, wanted: AutomationCore) -> What:
    # An owner is for good: the server does not tell it, and takes none in a change.
    now, then = (AutomationCore.model_validate(each.model_dump(exclude={"owner_resource"})) for each in (there, wanted))
    if now == then:
        return "unchanged"
    client.update_automation(there.id, then)
    return "changed"
