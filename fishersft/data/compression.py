"""Compressed files, told by their names and read as what they hold."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from fishersft.errors import InputError

_BY_SUFFIX = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


def compression_of(name: str) -> str | None:
    """How a file of that name is compressed: gzip, zstd, bz2, xz or not."""
    return _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())


def extension_of(name: str) -> str:
    """The lower-case extension of a name, with its dot, or the one before it where that one is a compression's."""
    path = PurePosixPath(name)
    inner = PurePosixPath(path.stem).suffix if path.suffix.lower() in _BY_SUFFIX else ""
    return (inner or path.suffix).lower()


@contextmanager
def decompressed(file: IO[bytes], compression: str, name: str) -> Iterator[IO[bytes]]:
    """What a compressed file holds, open for reading bytes.

    Args:
        file: open for reading.
        compression: as `compression_of` has it.
        name: the file's, for errors.

    Raises:
        InputError: the file is cut short, or is not compressed in that way.
    """
    try:
        with _OPEN[compression](file) as content:
            yield content
    except (*_BROKEN, OSError) as error:
        if not _is_of_content(error):
            raise
        raise InputError(
            f"{name} cannot be read as {compression}: {error or type(error).__name__}; is it whole, and named as what "
            "it is?"
        ) from error


def _is_of_content(error: Exception) -> bool:
    """Whether an error is about what the file holds; bz2 and Arrow tell it by an OSError without a number."""
    return isinstance(error, _BROKEN) or (type(error) is OSError and error.errno is None)


def _open_zstd(file: IO[bytes]) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


_OPEN: dict[str, Callable[[IO[bytes]], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": _open_zstd,
}
