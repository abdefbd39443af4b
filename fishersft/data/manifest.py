"""What an artifact is, as the file says that makes it exist; the file proves itself by a digest of its own."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from fishersft.data.artifact_names import ArtifactName
from fishersft.data.keys import digest_of
from fishersft.errors import InputError

MANIFEST_FORMAT = 1
_CONTENT = re.compile("[0-9a-f]{32}")
_names = TypeAdapter(list[ArtifactName])


class DamagedManifest(InputError):
    """What should be an artifact's manifest is none, or not as it was written."""


class FileEntry(BaseModel):
    """A file of an artifact: its name below the artifact's folder, its size in bytes and its sha256."""

    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What an artifact is, what it was made from and which files it has.

    `sources` are the artifacts that it was made from, each as "kind/key"; they are not part of its key.
    """

    format: int = MANIFEST_FORMAT
    kind: str
    key: str
    params: dict[str, Any]
    inputs: dict[str, Any]
    sources: list[str] = []
    facts: dict[str, Any]
    content: str
    files: list[FileEntry]
    seconds: float
    created: str
    code: str


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest's file: JSON, with a digest of all the rest."""
    said = json.loads(manifest.model_dump_json())
    return json.dumps({**said, "digest": digest_of(said)}, indent=1).encode()


def is_whole(content: bytes) -> bool:
    """Whether a manifest's file is as it was written; one without a digest, as they were once, is believed."""
    try:
        said = json.loads(content)
    except ValueError:
        return False
    return isinstance(said, dict) and said.pop("digest", None) in (None, digest_of(said))


def impossible_claim(manifest: Manifest, kind: str, key: str) -> str | None:
    """What a manifest found under that kind and key claims that cannot be, as one that was tampered with may."""
    if (manifest.kind, manifest.key) != (kind, key):
        return "is that of another artifact"
    if not _CONTENT.fullmatch(manifest.content):
        return "names a folder that is no digest"
    if any(part in ("", ".", "..") for entry in manifest.files for part in entry.name.split("/")):
        return "names a file outside of its folder"
    try:
        _names.validate_python(manifest.sources)
    except ValidationError:
        return "names sources that are no artifacts"
    return None
