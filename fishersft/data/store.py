"""The artifact store: immutable, content-addressed artifacts in a folder or under an fsspec URL.

Layout, the same everywhere::

    ROOT/KIND/KEY/manifest.json          written last: it makes the artifact exist
    ROOT/KIND/KEY/CONTENT/...            the files; CONTENT is a digest of their bytes

Two writers of the same key never mix their files, because each manifest points to the folder of its own content.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fishersft.data.drafts import draft_folder, put_draft
from fishersft.data.faults import clear_storage_errors
from fishersft.data.fetched import cache_folder, mark_used
from fishersft.data.files import Files
from fishersft.data.keys import digest_of, file_digest
from fishersft.data.manifest import (
    MANIFEST_FORMAT,
    DamagedManifest,
    FileEntry,
    Manifest,
    impossible_claim,
    is_whole,
    manifest_bytes,
)
from fishersft.errors import InputError

_READS = 3  # of a manifest that arrives damaged, before that is an error


@dataclass
class Draft:
    """An artifact while it is made: write files into `folder`, small results into `facts`.

    `checkpoint` is a local file or folder, named by the artifact's key, for work to go on from when its making is cut
    short; who writes it removes it. `sources` are artifacts that it turned out to be made from, beside those that
    `publish` was told, each as "kind/key". `started` is when its making began, by `time.perf_counter()`; set it back
    where that was before the draft.
    """

    folder: Path
    checkpoint: Path
    facts: dict[str, Any] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class Store:
    """Artifacts under one root.

    Args:
        url: a folder, or any fsspec URL such as `s3://bucket/prefix`. Credentials and endpoints come from the
            places that fsspec and its filesystems read (environment, profiles), never from here.

    Raises:
        InputError: the URL's protocol is not known, or the path is a file.
    """

    def __init__(self, url: str):
        self.files = Files(url)
        self._verified: dict[str, Path] = {}
        # Called with (kind, key, whether it was there) for each artifact that a step finds or makes here.
        self.on_use: list[Callable[[str, str, bool], None]] = []

    def find(self, kind: str, key: str) -> Manifest | None:
        """The manifest of an artifact, or None where there is none.

        Raises:
            InputError: the manifest is not readable, claims what cannot be, or is of a newer format than this version
                knows.
        """
        name = f"{kind}/{key}/manifest.json"
        try:
            text = self._read_whole(name)
        except FileNotFoundError:
            return None
        _check_format(f"{kind} artifact {key}", text)
        fault = f"{name} is not a manifest of FisherSFT, or damaged"
        if is_whole(text):
            with suppress(ValidationError):
                manifest = Manifest.model_validate_json(text)
                claim = impossible_claim(manifest, kind, key)
                if claim is None:
                    return manifest
                fault = claim
        raise DamagedManifest(
            f"{kind} artifact {key}: its manifest {fault}; "
            "`fishersft store verify --repair` takes it away, then run again to make the artifact anew"
        )

    def get(self, kind: str, key: str) -> Manifest:
        """The manifest of an artifact that must be there.

        Raises:
            InputError: there is no such artifact.
        """
        manifest = self.find(kind, key)
        if manifest is None:
            raise InputError(f"no {kind} artifact {key} in the store {self.files.shown}; run the step that makes it")
        return manifest

    def fetch(self, kind: str, key: str) -> Path:
        """A local folder with the artifact's files, each checked against its size and sha256.

        Raises:
            InputError: the artifact is missing, or a file of it is missing or does not match.
        """
        manifest = self.get(kind, key)
        done = self._verified.get(manifest.content)
        if done is not None and done.is_dir():
            return done
        source = f"{kind}/{key}/{manifest.content}"
        folder = self.files.local_path(source) if self.files.is_local else cache_folder() / manifest.content
        for entry in manifest.files:
            if not self._is_there(f"{source}/{entry.name}", folder / entry.name, entry):
                raise InputError(
                    f"{kind} artifact {key}: file {entry.name} is missing or does not match its manifest (expected "
                    f"{entry.size} bytes, sha256 {entry.sha256[:12]}…); `fishersft store verify --repair` takes the "
                    "artifact away, then run again to make it anew"
                )
        if not self.files.is_local:
            mark_used(folder)
        self._verified[manifest.content] = folder
        return folder

    @contextmanager
    def publish(
        self, kind: str, key: str, params: dict[str, Any], inputs: dict[str, Any], sources: Sequence[str] = ()
    ) -> Iterator[Draft]:
        """Makes an artifact: yields a draft to write into; leaving the block without error publishes it.

        Args:
            sources: the artifacts that it is made from, each as "kind/key".

        Raises:
            InputError: the disk is full, or the store fails.
        """
        drafts = self.files.local_path(".drafts") if self.files.is_local else cache_folder() / "drafts"
        with clear_storage_errors(f"{kind} artifact {key}"), draft_folder(drafts, kind) as folder:
            draft = Draft(folder, self.scratch(f"{kind}-{key}.json"))
            yield draft
            files = _entries(folder)
            content = digest_of([entry.model_dump() for entry in files])[:32]
            self._put_files(folder, f"{kind}/{key}/{content}", files)
            manifest = Manifest(
                kind=kind,
                key=key,
                params=params,
                inputs=inputs,
                sources=sorted({*sources, *draft.sources}),
                facts=draft.facts,
                content=content,
                files=files,
                seconds=round(time.perf_counter() - draft.started, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                code=f"fishersft {package_version('fishersft')}",
            )
            self.files.write(f"{kind}/{key}/manifest.json", manifest_bytes(manifest))

    def _read_whole(self, name: str) -> bytes:
        """A manifest's bytes, read again where they are damaged: that may have happened on the way."""
        for _ in range(_READS - 1):
            content = self.files.read(name)
            if is_whole(content):
                return content
        return self.files.read(name)

    def _is_there(self, name: str, local: Path, entry: FileEntry) -> bool:
        """Whether the file is on this machine as its manifest says, downloaded where need be."""
        if self.files.is_local or _matches(local, entry):
            return _matches(local, entry)
        try:
            if self.files.download_whole(name, local, entry.size, entry.sha256):
                return True
        except FileNotFoundError:
            return False
        local.unlink()
        return False

    def scratch(self, name: str) -> Path:
        """A place on this machine for work that goes on later: in the store, of a remote one in the user's cache."""
        folder = self.files.local_path(".checkpoints") if self.files.is_local else cache_folder() / "checkpoints"
        return folder / name

    def _put_files(self, folder: Path, target: str, files: list[FileEntry]) -> None:
        if self.files.is_local:
            put_draft(folder, self.files.local_path(target))
            return
        for entry in files:
            self.files.upload(folder / entry.name, f"{target}/{entry.name}")


def put_folder(folder: Path, url: str) -> None:
    """Makes a folder or fsspec URL hold the files of a local folder, and no file that an earlier call left there.

    Which files it wrote stands in `.fishersft.json` beside them; others are not touched.

    Raises:
        InputError: the disk is full, or the place is not a folder.
    """
    files = Files(url)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        before = json.loads(files.read(".fishersft.json"))
    except FileNotFoundError:
        before = []
    for name in names:
        files.upload(folder / name, name)
    files.remove(sorted(set(before) - set(names)))
    files.write(".fishersft.json", json.dumps(names).encode())


def _check_format(what: str, manifest: bytes) -> None:
    try:
        said = json.loads(manifest)
    except ValueError:
        return
    found = said.get("format") if isinstance(said, dict) else None
    if isinstance(found, int) and found > MANIFEST_FORMAT:
        raise InputError(
            f"{what} was written by a newer FisherSFT (manifest format {found}, this version reads up to "
            f"{MANIFEST_FORMAT}); upgrade fishersft, or use another store"
        )


def _entries(folder: Path) -> list[FileEntry]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        FileEntry(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_digest(path))
        for path in paths
    ]


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and file_digest(path) == entry.sha256
