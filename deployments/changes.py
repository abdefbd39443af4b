"""What a registration did to one thing on the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

What = Literal["made", "changed", "unchanged", "removed"]


@dataclass(frozen=True)
class Change:
    """One thing on the server, what became of it, and where the UI shows it."""

    kind: str
    name: str
    what: What
    url: str
