"""Garbage collection as a step: what nobody needs is removed, and by kind how much that was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from fishersft.data.artifact_names import KINDS
from fishersft.data.collecting import Waste, remove_waste
from fishersft.data.fetched import forget_unused
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.outcome import OnProgress


@dataclass(frozen=True)
class Collected:
    """What gc removed.

    Attributes:
        removed: artifacts' folders that went.
        stayed: those that were to go, but that a run has come to need meanwhile.
        copies: of a remote store's artifacts on this machine that went too.
    """

    removed: int
    stayed: int
    copies: int


def age(text: str) -> timedelta:
    """The age that a text such as "30d" or "12h" means.

    Raises:
        InputError: it is neither days nor hours, or more than 99,999 of them, which may be before the year 1.
    """
    match = re.fullmatch(r"(\d{1,5})([dh])", text)
    if match is None:
        raise InputError(f"older than {text}: expected days or hours, such as 30d or 12h, 99999 at most")
    return timedelta(**{{"d": "days", "h": "hours"}[match[2]]: int(match[1])})


def collect(store: Store, waste: Waste, older_than: timedelta, on_progress: OnProgress) -> Collected:
    """Removes what `find_waste` found, and this machine's copies that were not of use for `older_than`.

    Raises:
        InputError: the store cannot be read or written.
    """
    folders, removed, looked_at = len(waste.folders()), 0, 0
    for looked, gone in remove_waste(store, waste):
        looked_at, removed = looked_at + looked, removed + gone
        on_progress(looked_at, folders)
    copies = 0 if store.files.is_local else forget_unused(older_than)
    return Collected(removed, folders - removed, copies)


def waste_by_kind(waste: Waste) -> list[tuple[str, int, int | None]]:
    """Of each kind of which there is some: its name, how many, and their bytes (None for run records)."""
    rows: list[tuple[str, int, int | None]] = []
    for kind in KINDS:
        sizes = [artifact.size for artifact in waste.artifacts if artifact.manifest.kind == kind]
        rows.append((kind, len(sizes), sum(sizes)))
    orphans = [file for files in waste.orphans.values() for file in files]
    for what, files in {"files without a manifest": orphans, **waste.scratch}.items():
        rows.append((what, len(files), sum(file.size for file in files)))
    rows.append(("run records", len(waste.records), None))
    return [row for row in rows if row[1]]
