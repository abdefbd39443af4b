"""Checking artifacts in a store: every file there, of its size, with its sha256."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fishersft.data.concurrency import at_once
from fishersft.data.files import Files
from fishersft.data.inventory import Artifact
from fishersft.data.keys import file_digest
from fishersft.data.manifest import FileEntry

_CHECKS = 4


@dataclass(frozen=True)
class Checked:
    """A file that was checked.

    Attributes:
        artifact: the name of its artifact, "kind/key".
        file: its name below the artifact's folder.
        size: the bytes that it should have.
        fault: what is wrong with it, or "".
    """

    artifact: str
    file: str
    size: int
    fault: str


def check_files(files: Files, artifacts: Sequence[Artifact]) -> Iterator[Checked]:
    """Checks the files of artifacts, several at a time; those of a remote store are fetched for it.

    Raises:
        InputError: the store cannot be read.
    """
    entries = [(artifact, entry) for artifact in artifacts for entry in artifact.manifest.files]

    def check(of: tuple[Artifact, FileEntry]) -> Checked:
        artifact, entry = of
        name = f"{artifact.name}/{artifact.manifest.content}/{entry.name}"
        return Checked(artifact.name, entry.name, entry.size, _fault(files, name, entry))

    return at_once(check, entries, _CHECKS)


def _fault(files: Files, name: str, entry: FileEntry) -> str:
    size = files.size(name)
    if size is None:
        return "is missing"
    if size != entry.size:
        return f"has {size:,} bytes, not {entry.size:,}"
    try:
        is_whole = _has_digest(files, name, entry)
    except FileNotFoundError:  # removed just now
        return "is missing"
    return "" if is_whole else "has other bytes than were written"


def _has_digest(files: Files, name: str, entry: FileEntry) -> bool:
    """Whether a file has the sha256 that it should; one that is not on this machine is fetched for it."""
    if files.is_local:
        return file_digest(files.local_path(name)) == entry.sha256
    with tempfile.TemporaryDirectory() as scratch:
        return files.download_whole(name, Path(scratch, "file"), entry.size, entry.sha256)
