"""Checking artifacts in a store: every file there, of its size, with its sha256."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fishersft.data.files import FileInfo, Files
from fishersft.data.inventory import Artifact
from fishersft.data.keys import file_digest
from fishersft.data.manifest import FileEntry


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
    """Checks the files of artifacts, one after the other; those of a remote store are fetched for it.

    Raises:
        InputError: the store cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for artifact in artifacts:
            there = {file.name: file for file in artifact.files}
            for entry in artifact.manifest.files:
                file = there.get(f"{artifact.name}/{artifact.manifest.content}/{entry.name}")
                yield Checked(artifact.name, entry.name, entry.size, _fault(files, file, entry, Path(scratch)))


def _fault(files: Files, file: FileInfo | None, entry: FileEntry, scratch: Path) -> str:
    if file is None:
        return "is missing"
    if file.size != entry.size:
        return f"has {file.size:,} bytes, not {entry.size:,}"
    try:
        digest = _digest(files, file, scratch)
    except FileNotFoundError:  # removed since it was listed
        return "is missing"
    return "" if digest == entry.sha256 else "has other bytes than were written"


def _digest(files: Files, file: FileInfo, scratch: Path) -> str:
    if files.is_local:
        return file_digest(files.local_path(file.name))
    copy = scratch / "file"
    try:
        files.download(file.name, copy, file.size)
        return file_digest(copy)
    finally:
        copy.unlink(missing_ok=True)
