"""Copying artifacts from one store to another: each whole, checked on its way, its manifest last."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fishersft.data.concurrency import at_once
from fishersft.data.inventory import Artifact, manifest_file
from fishersft.data.store import Store
from fishersft.errors import InputError

_COPIES = 4
_LOOKERS = 16


def missing_artifacts(target: Store, artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Those that another store has not."""
    there = at_once(lambda artifact: target.files.exists(manifest_file(artifact.name)), artifacts, _LOOKERS)
    return [artifact for artifact, found in zip(artifacts, there, strict=True) if not found]


def copy_artifacts(source: Store, target: Store, artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """Copies artifacts, several at a time, and gives each when it is there.

    Raises:
        InputError: a file is missing or does not match its manifest, or a store cannot be read or written.
    """

    def copy(artifact: Artifact) -> Artifact:
        with tempfile.TemporaryDirectory() as scratch:
            _copy(source, target, artifact, Path(scratch, "file"))
        return artifact

    return at_once(copy, artifacts, _COPIES)


def _copy(source: Store, target: Store, artifact: Artifact, copy: Path) -> None:
    for entry in artifact.manifest.files:
        name = f"{artifact.name}/{artifact.manifest.content}/{entry.name}"
        try:
            is_whole = source.files.size(name) == entry.size and source.files.download_whole(
                name, copy, entry.size, entry.sha256
            )
        except FileNotFoundError:
            is_whole = False
        if not is_whole:
            raise InputError(
                f"{artifact.name}: file {entry.name} is missing or does not match its manifest; "
                f"`fishersft store verify --repair` removes what is damaged, the next run makes it anew"
            )
        target.files.upload(copy, name)
    manifest = source.files.read(manifest_file(artifact.name))
    target.files.write(manifest_file(artifact.name), manifest)
