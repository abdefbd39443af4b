"""The event that says a corpus changed: its name, the resource it is about, and which corpora a trigger listens to."""

from __future__ import annotations

import os
import re

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.events import Event, Resource

from fishersft.data.locations import PACKAGE_PREFIX, display_name
from fishersft.errors import InputError

CHANGED = "fishersft.corpus.changed"
_RESOURCE = "fishersft.corpus."
_GLOB = re.compile(r"[*?\[]")


def resource_of(path: str) -> str:
    """The id of the resource that stands for a corpus, such as fishersft.corpus.s3://bucket/corpus/part.jsonl.

    Raises:
        InputError: the URL holds credentials, which would be stored and shown with the event.
    """
    if display_name(path) != path:
        raise InputError(
            f"{display_name(path)} came with credentials or a signature in the URL; take them out: events are stored"
        )
    local = "://" not in path and not path.startswith(PACKAGE_PREFIX)
    return _RESOURCE + (os.path.abspath(os.path.expanduser(path)) if local else path)


def resources_below(path: str | list[str]) -> list[str]:
    """What a trigger has to match so that any change of these places starts it; a last `*` stands for anything.

    A file or folder itself, all that is below it, and of a glob all that begins as it does.
    """
    matching = list[str]()
    for place in [path] if isinstance(path, str) else path:
        resource = resource_of(place).rstrip("/")
        glob = _GLOB.search(resource, len(_RESOURCE))
        matching += [f"{resource[: glob.start()]}*"] if glob else [resource, f"{resource}/*"]
    return matching


def emit_changed(client: SyncPrefectClient, path: str) -> list[str]:
    """Tells the server that the corpus changed; the names of the automations that this starts."""
    resource = Resource.model_validate({"prefect.resource.id": resource_of(path), "prefect.resource.name": path})
    event = Event(event=CHANGED, resource=resource)
    client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    return [
        automation.name
        for automation in client.read_automations(limit=200)
        if automation.enabled
        and CHANGED in getattr(automation.trigger, "expect", ())
        and automation.trigger.match.matches(resource)  # type: ignore[union-attr]
    ]
