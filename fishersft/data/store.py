"""The artifact store: immutable, content-addressed artifacts in a folder or under an fsspec URL.

Layout, the same everywhere::

    ROOT/KIND/KEY/manifest.json          written last: it makes the artifact exist
    ROOT/KIND/KEY/CONTENT/...            the files; CONTENT is a digest of their bytes

Two writers of the same key never mix their files, because each manifest points to the folder of its own content.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from fishersft.data.files import Files
from fishersft.data.keys import digest_of, file_digest
from fishersft.data.locations import display_name, remote_errors
from fishersft.errors import InputError

MANIFEST_FORMAT = 1


class FileEntry(BaseModel):
    """A file of an artifact: its name below the artifact's folder, its size in bytes and its sha256."""

    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What an artifact is, what it was made from and which files it has."""

    format: int = MANIFEST_FORMAT
    kind: str
    key: str
    params: dict[str, Any]
    inputs: dict[str, Any]
    facts: dict[str, Any]
    content: str
    files: list[FileEntry]
    seconds: float
    created: str
    code: str
    sources: list[str] = []


@dataclass
class Draft:
    """An artifact while it is made: write files into `folder`, small results into `facts`.

    `checkpoint` is a local file, named by the artifact's key, for work to go on from when its making is cut short;
    who writes it removes it. `started` is when its making began, by `time.perf_counter()`; set it back where that was
    before the draft.
    """

    folder: Path
    checkpoint: Path
    facts: dict[str, Any] = field(default_factory=dict)
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
        self._fs, self._root = _filesystem(url)
        self._local = isinstance(self._fs, LocalFileSystem)
        self.files = Files(url)
        self._verified: dict[str, Path] = {}
        # Called with (kind, key, whether it was there) for each artifact that a step finds or makes here.
        self.on_use: list[Callable[[str, str, bool], None]] = []

    def find(self, kind: str, key: str) -> Manifest | None:
        """The manifest of an artifact, or None where there is none.

        Raises:
            InputError: the manifest is not readable, or of a newer format than this version knows.
        """
        path = self._path(kind, key, "manifest.json")
        try:
            with clear_storage_errors(f"{kind} artifact {key}"):
                text = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise InputError(
                f"{kind} artifact {key}: its manifest {path} is not a manifest of FisherSFT ({error.error_count()} "
                "faults); delete that file and run again to make the artifact anew"
            ) from error
        if manifest.format > MANIFEST_FORMAT:
            raise InputError(
                f"{kind} artifact {key} was written by a newer FisherSFT (manifest format {manifest.format}, this "
                f"version reads up to {MANIFEST_FORMAT}); upgrade fishersft, or use another store"
            )
        return manifest

    def get(self, kind: str, key: str) -> Manifest:
        """The manifest of an artifact that must be there.

        Raises:
            InputError: there is no such artifact.
        """
        manifest = self.find(kind, key)
        if manifest is None:
            raise InputError(f"no {kind} artifact {key} in the store {self._root}; run the step that makes it")
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
        source = self._path(kind, key, manifest.content)
        folder = Path(source) if self._local else _cache_folder() / manifest.content
        for entry in manifest.files:
            local = folder / entry.name
            if not self._local and not _matches(local, entry):
                self._download(f"{source}/{entry.name}", local)
            if not _matches(local, entry):
                raise InputError(
                    f"{kind} artifact {key}: file {entry.name} is missing or does not match its manifest (expected "
                    f"{entry.size} bytes, sha256 {entry.sha256[:12]}…); delete {self._path(kind, key)} and run "
                    "again to make it anew"
                )
        self._verified[manifest.content] = folder
        return folder

    @contextmanager
    def publish(self, kind: str, key: str, params: dict[str, Any], inputs: dict[str, Any]) -> Iterator[Draft]:
        """Makes an artifact: yields a draft to write into; leaving the block without error publishes it.

        Raises:
            InputError: the disk is full.
        """
        scratch = Path(self._root, ".drafts") if self._local else Path(tempfile.gettempdir())
        folder = scratch / f"{kind}-{uuid.uuid4().hex}"
        with clear_storage_errors(f"{kind} artifact {key}"):
            yield from self._publish(folder, kind, key, params, inputs)

    def _publish(
        self, folder: Path, kind: str, key: str, params: dict[str, Any], inputs: dict[str, Any]
    ) -> Iterator[Draft]:
        try:
            folder.mkdir(parents=True)
            draft = Draft(folder, self._checkpoint(kind, key))
            yield draft
            files = _entries(folder)
            content = digest_of([entry.model_dump() for entry in files])[:32]
            self._put_files(folder, self._path(kind, key, content), files)
            manifest = Manifest(
                kind=kind,
                key=key,
                params=params,
                inputs=inputs,
                facts=draft.facts,
                content=content,
                files=files,
                seconds=round(time.perf_counter() - draft.started, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                code=f"fishersft {package_version('fishersft')}",
            )
            self._put_bytes(self._path(kind, key, "manifest.json"), manifest.model_dump_json(indent=1).encode())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _checkpoint(self, kind: str, key: str) -> Path:
        folder = Path(self._root, ".checkpoints") if self._local else _cache_folder() / "checkpoints"
        return folder / f"{kind}-{key}.json"

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _put_files(self, folder: Path, target: str, files: list[FileEntry]) -> None:
        if self._local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Files of the same content are there, from another writer or a publication cut short: refresh them.
                for entry in files:
                    Path(target, entry.name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(folder / entry.name, Path(target, entry.name))
            return
        for entry in files:
            self._fs.put_file(str(folder / entry.name), f"{target}/{entry.name}")

    def _put_bytes(self, target: str, content: bytes) -> None:
        if not self._local:
            self._fs.pipe_file(target, content)
            return
        temporary = Path(f"{target}.{uuid.uuid4().hex}")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)

    def _download(self, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        try:
            self._fs.get_file(source, str(partial))
            partial.replace(target)
        except FileNotFoundError:
            return  # fetch reports the file as missing
        finally:
            partial.unlink(missing_ok=True)


def put_folder(folder: Path, url: str) -> None:
    """Makes a folder or fsspec URL hold the files of a local folder, and no file that an earlier call left there.

    Which files it wrote stands in `.fishersft.json` beside them; others are not touched.

    Raises:
        InputError: the disk is full, or the place is not a folder.
    """
    fs, root = _filesystem(url)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    listing = f"{root}/.fishersft.json"
    with clear_storage_errors(display_name(url)):
        before = json.loads(fs.cat_file(listing)) if fs.exists(listing) else []
        for name in names:
            target = f"{root}/{name}"
            fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            fs.put_file(str(folder / name), target)
        for name in sorted(set(before) - set(names)):
            if fs.exists(f"{root}/{name}"):
                fs.rm_file(f"{root}/{name}")
        fs.pipe_file(listing, json.dumps(names).encode())


@contextmanager
def clear_storage_errors(what: str) -> Iterator[None]:
    """Turns what a user can mend while `what` is read or written into one clear error.

    Raises:
        InputError: the disk is full, access is denied, a file is where a folder should be, or an object store
            cannot be reached.
    """
    try:
        yield
    except PermissionError as error:
        raise InputError(f"access denied for {what}: {error}; check its permissions, or your credentials") from error
    except (NotADirectoryError, FileExistsError) as error:
        raise InputError(f"cannot write {what}: {error.filename} is a file, not a folder; choose another") from error
    except (OSError, SafetensorError) as error:
        # safetensors tells the errno in its text alone
        if getattr(error, "errno", None) != errno.ENOSPC and f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise InputError(
            f"no space left on the disk while writing {what}; free some space, or choose another store and output, "
            "then run again: finished artifacts are kept"
        ) from error
    except remote_errors() as error:
        raise InputError(
            f"the object store cannot be reached for {what}: {error}; check credentials and endpoint (such as "
            "AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL) and the network, then run again: finished artifacts are kept"
        ) from error


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ValueError as error:
        raise InputError(
            f"{display_name(url)}: expected a folder or a URL such as s3://bucket/prefix: {error}"
        ) from error
    except ImportError as error:
        raise InputError(f"{display_name(url)}: {error}; for s3:// pip install 'fishersft[s3]'") from error
    return fs, str(root).rstrip("/")


def _entries(folder: Path) -> list[FileEntry]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        FileEntry(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_digest(path))
        for path in paths
    ]


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and file_digest(path) == entry.sha256


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fishersft"
