"""The automations that tell a person or put something right."""

from __future__ import annotations

from prefect.events.schemas.automations import AutomationCore


def wanted() -> list[AutomationCore]:
    """Every automation that belongs to no single deployment; the same each time it is asked."""
    return []
