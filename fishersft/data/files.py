"""Bytes in and out under one root: a local folder, or any fsspec URL. The store knows fsspec through this alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fishersft.data.faults import DamagedTransfer, clear_storage_errors, is_refused_as_existing, with_patience
from fishersft.data.local_files import copy_synced, create_whole, write_synced, write_whole
from fishersft.data.locations import display_name
from fishersft.errors import InputError

PART = 16 << 20  # bytes; what is in memory at once is PART * PARTS_AT_ONCE
PARTS_AT_ONCE = 4
_UPLOADS = 3  # of a file that is not there whole afterwards, before that is an error
_DOWNLOADS = 3  # of a file that arrives with other bytes, likewise: it may have happened on the way

Result = TypeVar("Result")
# One layer retries, `with_patience`; botocore and s3fs would multiply its tries. Checksums are sent with every
# upload, whatever the environment says, so that the server refuses what was damaged on its way.
_S3_OPTIONS: dict[str, Any] = {
    "skip_instance_cache": True,  # others may share those that fsspec keeps
    "use_listings_cache": False,
    "max_concurrency": 1,  # a read is one request, without a look at the size first
    "config_kwargs": {"retries": {"total_max_attempts": 1}, "request_checksum_calculation": "when_supported"},
}


@dataclass(frozen=True)
class FileInfo:
    """A file below the root: its name relative to that, its size in bytes and when it was last written."""

    name: str
    size: int
    modified: datetime


class Files:
    """Files under one root. What the store fails at for the moment is tried again, a bounded number of times.

    Args:
        url: a folder, or any fsspec URL such as `s3://bucket/prefix`. Credentials and endpoints come from the
            places that fsspec and its filesystems read (environment, profiles), never from here.

    Raises:
        InputError: the URL's protocol is not known. By every method, too: access is denied, the bucket is missing,
            credentials or clock are wrong, the disk is full, or the store keeps failing.
    """

    def __init__(self, url: str):
        self._fs, self.root = _filesystem(url)
        self.shown = display_name(url)
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def local_path(self, name: str = "") -> Path:
        """Where a file or folder of a local root is."""
        assert self.is_local, f"{self.shown} is not on this machine"
        return Path(self.root, name)

    def read(self, name: str) -> bytes:
        """The bytes of a small file.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        return self._do(name, lambda: self._fs.cat_file(self._path(name)))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """The bytes of a file; None where there is none of that name."""
        try:
            info = self._do(name, lambda: self._fs.info(self._path(name)))
        except FileNotFoundError:
            return None
        return info["size"] if info["type"] == "file" else None

    def list(self, prefix: str = "", twice: bool = False) -> Iterator[FileInfo]:
        """The files in the folder `prefix` and all folders below it, by name: as they are now, not as once listed.

        A listing carries no checksum, so one that is damaged on its way may lack a file. With `twice` it is asked for
        again, and what either shows is given; of a file that both show what it was when it was written last.
        """
        found = self._listed(prefix)
        if twice and not self.is_local:
            for path, file in self._listed(prefix).items():
                found[path] = max(file, found.get(path, file), key=lambda file: file.modified)
        yield from sorted(found.values(), key=lambda file: file.name)

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file, whole or not at all."""
        if self.is_local:
            with clear_storage_errors(self._shown(name)):
                write_whole(self.local_path(name), lambda partial: write_synced(partial, content))
        else:
            self._do(name, lambda: self._fs.pipe_file(self._path(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small file where there is none of that name; whether there was none.

        A store that does not know conditional writes overwrites it.
        """
        if self.is_local:
            with clear_storage_errors(self._shown(name)):
                return create_whole(self.local_path(name), content)

        def create() -> bool:
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except OSError as error:
                if not is_refused_as_existing(error):
                    raise
                return False
            return True

        return self._do(name, create)

    def upload(self, source: Path, name: str) -> None:
        """Copies a local file here, a large one in parts; every part is checked by the server on arrival.

        Raises:
            InputError: what arrived has another size, again and again.
        """
        if self.is_local:
            with clear_storage_errors(self._shown(name)):
                write_whole(self.local_path(name), lambda partial: copy_synced(source, partial))
            return
        size = source.stat().st_size
        for _ in range(_UPLOADS):
            with suppress(FileNotFoundError):  # the store forgot an upload that had begun, or what it had
                self._upload_remote(source, name, size)
                if self._do(name, lambda: self._fs.info(self._path(name)))["size"] == size:
                    return
        raise InputError(
            f"{self._shown(name)} has not its {size} bytes after {_UPLOADS} uploads; does another program write "
            "there? Run again"
        )

    def download(self, name: str, target: Path, size: int) -> str:
        """Copies a file of `size` bytes from here to a local file, a large one by ranges at once.

        Returns:
            The sha256 hex digest of what arrived, made while the rest was on its way.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        digest, starts = hashlib.sha256(), range(0, size, PART)

        def write(partial: Path) -> None:
            # Not synced: who downloads compares digests before use.
            with partial.open("w+b") as file, ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
                for piece in threads.map(lambda start: self._fetch(name, file.fileno(), start, size), starts):
                    digest.update(os.pread(file.fileno(), len(piece), piece.start))

        with clear_storage_errors(self._shown(name)):
            write_whole(target, write)
        return digest.hexdigest()

    def download_whole(self, name: str, target: Path, size: int, sha256: str) -> bool:
        """`download`, again where what arrived is not what was written; whether it is in the end.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        return any(self.download(name, target, size) == sha256 for _ in range(_DOWNLOADS))

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are gone already are no error."""

        def remove_one(name: str) -> None:
            with suppress(FileNotFoundError):
                self._do(name, lambda: self._fs.rm_file(self._path(name)))

        _at_once(remove_one, names)

    def _fetch(self, name: str, file: int, start: int, size: int) -> range:
        """Writes the part that begins at `start` to its place in an open file; returns which bytes that are."""
        piece = range(start, min(start + PART, size))

        def fetch() -> None:
            content = self._fs.cat_file(self._path(name), start=piece.start, end=piece.stop)
            if len(content) != len(piece):
                raise DamagedTransfer(f"{len(content)} bytes arrived instead of {len(piece)}")
            os.pwrite(file, content, start)

        self._do(name, fetch)
        return piece

    def _upload_remote(self, source: Path, name: str, size: int) -> None:
        if hasattr(self._fs, "call_s3") and size > PART:
            self._upload_parts(source, name, size)
        else:
            self._do(name, lambda: self._fs.put_file(str(source), self._path(name)))

    def _upload_parts(self, source: Path, name: str, size: int) -> None:
        bucket, key, _ = self._fs.split_path(self._path(name))
        place = {"Bucket": bucket, "Key": key}
        place["UploadId"] = self._do(name, lambda: self._fs.call_s3("create_multipart_upload", **place))["UploadId"]
        part = max(PART, -(-size // 10_000))  # S3 takes no more parts than that

        def send(number: int) -> dict[str, Any]:
            content = _piece(source, (number - 1) * part, part)
            sent = self._do(name, lambda: self._fs.call_s3("upload_part", **place, PartNumber=number, Body=content))
            checksums = {name: value for name, value in sent.items() if name.startswith("Checksum")}
            return {"PartNumber": number, "ETag": sent["ETag"], **checksums}

        try:
            parts = {"Parts": _at_once(send, range(1, -(-size // part) + 1))}
            # No such upload: it was completed, and the answer lost on its way. The size is checked by the caller.
            with suppress(FileNotFoundError):
                self._do(name, lambda: self._fs.call_s3("complete_multipart_upload", **place, MultipartUpload=parts))
        except BaseException:
            with suppress(FileNotFoundError, InputError):
                self._do(name, lambda: self._fs.call_s3("abort_multipart_upload", **place))
            raise

    def _listed(self, prefix: str) -> dict[str, FileInfo]:
        found = self._do(prefix or "its files", lambda: self._find(prefix))
        return {
            path: FileInfo(path.removeprefix(f"{self.root}/"), info["size"], _modified(info))
            for path, info in found.items()
            if info["type"] != "directory"  # what some servers leave of a folder whose files were removed
        }

    def _find(self, prefix: str) -> dict[str, dict[str, Any]]:
        self._fs.invalidate_cache()
        # a folder of this machine that cannot be read is not an empty one
        options = {"on_error": _raise_unless_gone} if self.is_local else {}
        try:
            return self._fs.find(self._path(prefix), detail=True, **options)
        except (KeyError, ValueError) as error:  # what botocore makes of an answer with a bit turned
            raise DamagedTransfer("the listing is damaged") from error

    def _do(self, name: str, action: Callable[[], Result]) -> Result:
        what = self._shown(name)
        with clear_storage_errors(what):
            return with_patience(what, action)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def _shown(self, name: str) -> str:
        return f"{name} in {self.shown}"


def _filesystem(url: str) -> tuple[Any, str]:
    options = _S3_OPTIONS if split_protocol(url)[0] in ("s3", "s3a") else {}
    try:
        fs, root = url_to_fs(url, **options)
    except ValueError as error:
        raise InputError(
            f"{display_name(url)}: expected a folder or a URL such as s3://bucket/prefix: {error}"
        ) from error
    except ImportError as error:
        raise InputError(f"{display_name(url)}: {error}; for s3:// pip install 'fishersft[s3]'") from error
    if options:
        fs.retries = 1
    return fs, str(root).rstrip("/")


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _piece(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _at_once(action: Callable[[Any], Result], items: Iterable[Any]) -> list[Result]:
    """What `action` gives for each item, several at a time; the first error ends it."""
    with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
        return list(threads.map(action, items))


def _modified(info: dict[str, Any]) -> datetime:
    value = info.get("LastModified") or info.get("mtime") or info.get("updated") or info["created"]
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
