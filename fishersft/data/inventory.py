"""What a store holds: its artifacts with their files, and files that belong to none."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fishersft.data.artifact_names import KEY_PATTERN, KINDS
from fishersft.data.concurrency import at_once
from fishersft.data.files import FileInfo, Files
from fishersft.data.manifest import DamagedManifest, Manifest
from fishersft.data.store import Store
from fishersft.errors import InputError

# Folders of work that is not finished, and what they hold.
SCRATCH = {".drafts": "drafts", ".checkpoints": "checkpoints", ".claims": "claims"}
_READERS = 16  # manifests are small: reading them is waiting for the store
_IN_FOLDER = re.compile(rf"({'|'.join(KINDS)})/{KEY_PATTERN}(?=/)")
_MANIFEST = re.compile(rf"({'|'.join(KINDS)})/{KEY_PATTERN}/manifest\.json")
_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Artifact:
    """An artifact in a store: its manifest, and its files with the manifest's own first."""

    manifest: Manifest
    files: tuple[FileInfo, ...]

    @property
    def name(self) -> str:
        """Its kind and key: "kind/key"."""
        return f"{self.manifest.kind}/{self.manifest.key}"

    @property
    def modified(self) -> datetime:
        """When it was published, by the store's clock."""
        return self.files[0].modified

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Inventory:
    """What a store holds.

    Attributes:
        artifacts: by name, what is made of others after them, older ones first.
        damaged: the names of artifacts whose manifest is no manifest, with what is wrong.
        folders: by artifact name, every file that lies in its folder.
        scratch: by "drafts", "checkpoints" and "claims", the files of work that is not finished.
    """

    artifacts: dict[str, Artifact]
    damaged: dict[str, str]
    folders: dict[str, list[FileInfo]]
    scratch: dict[str, list[FileInfo]]

    def sources(self) -> dict[str, list[str]]:
        """By name, what each artifact was made from, in one step."""
        return {name: artifact.manifest.sources for name, artifact in self.artifacts.items()}

    def orphans(self) -> dict[str, list[FileInfo]]:
        """By the name of the folder, files that no manifest names: of publications under way or cut short."""
        found = {}
        for name, files in self.folders.items():
            has_manifest = any(file.name == manifest_file(name) for file in files)
            if has_manifest and name not in self.artifacts:  # damaged, or not there when it was read
                continue
            owned = {file.name for file in self.artifacts[name].files} if name in self.artifacts else set()
            if orphans := [file for file in files if file.name not in owned]:
                found[name] = orphans
        return found

    def name_of(self, key: str) -> str:
        """The name of the one artifact whose key begins so, even if its manifest is damaged.

        Raises:
            InputError: no key begins so, several do, or it is no beginning of a key.
        """
        if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST_PREFIX},64}}", key):
            raise InputError(f"{key!r} is no key: expected its first {_SHORTEST_PREFIX} to 64 digits (0-9, a-f)")
        found = [name for name in (*self.artifacts, *self.damaged) if name.partition("/")[2].startswith(key)]
        if not found:
            raise InputError(f"no artifact's key begins with {key}; `fishersft store ls` lists them")
        if len(found) > 1:
            raise InputError(f"{len(found)} keys begin with {key}: {', '.join(found[:3])}; give more digits")
        return found[0]

    def artifact(self, key: str) -> Artifact:
        """The one artifact whose key begins so.

        Raises:
            InputError: as `name_of`, or its manifest is damaged.
        """
        name = self.name_of(key)
        if name in self.damaged:
            raise InputError(self.damaged[name])
        return self.artifacts[name]


def take_inventory(store: Store, twice: bool = False) -> Inventory:
    """Lists a store and reads all its manifests; `twice` as `Files.list` has it.

    Raises:
        InputError: the store cannot be read, or a newer FisherSFT has written there.
    """
    folders = defaultdict[str, list[FileInfo]](list)
    for kind in KINDS:
        for file in store.files.list(kind, twice):
            if match := _IN_FOLDER.match(file.name):
                folders[match[0]].append(file)
    scratch = {what: list(store.files.list(folder)) for folder, what in SCRATCH.items()}
    published = [name for name, files in folders.items() if any(file.name == manifest_file(name) for file in files)]
    manifests = dict(zip(published, at_once(lambda name: _read(store, name), published, _READERS), strict=True))
    damaged = {name: manifest for name, manifest in manifests.items() if isinstance(manifest, str)}
    artifacts = [
        Artifact(manifest, _files_of(name, manifest, folders[name]))
        for name, manifest in manifests.items()
        if isinstance(manifest, Manifest)
    ]
    artifacts.sort(key=lambda artifact: (KINDS.index(artifact.manifest.kind), artifact.modified))
    return Inventory({artifact.name: artifact for artifact in artifacts}, damaged, dict(folders), scratch)


def manifest_file(name: str) -> str:
    """The file that makes the artifact of that name exist."""
    return f"{name}/manifest.json"


def remove_files(files: Files, names: Sequence[str]) -> None:
    """Removes files of artifacts, manifests first: what loses files has stopped to exist."""
    manifests = {name for name in names if _MANIFEST.fullmatch(name)}
    files.remove(sorted(manifests))
    files.remove(sorted(set(names) - manifests))


def _read(store: Store, name: str) -> Manifest | str | None:
    """A manifest, or what is wrong with it, or None where it has just been removed."""
    kind, _, key = name.partition("/")
    try:
        return store.find(kind, key)
    except DamagedManifest as error:
        return str(error)


def _files_of(name: str, manifest: Manifest, folder: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    there = {file.name: file for file in folder}
    wanted = [manifest_file(name), *(f"{name}/{manifest.content}/{entry.name}" for entry in manifest.files)]
    return tuple(there[file] for file in wanted if file in there)
