"""Texts on local scratch while a corpus is planned, so that memory holds only what planning needs of a row."""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from collections.abc import Iterable
from threading import Lock
from types import TracebackType

from fishersft.errors import InputError

_WRITE_BYTES = 1 << 20


class Spool:
    """Texts that are appended once and read back in any order, from any thread; gone when it is closed.

    They lie in an unnamed file of the folder that TMPDIR names, which vanishes with the process however that ends.

    Example:
        >>> with Spool() as spool:
        ...     places = [spool.append(text) for text in ("one", "zwei — 2", "")]
        ...     spool.read([2, 1])
        ['', 'zwei — 2']
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed when the spool is
        self._pending = bytearray()
        self._written = 0
        self._starts = array("q", [0])
        self._lock = Lock()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, text: str) -> int:
        """Keeps a text; returns its place, counted from 0.

        Raises:
            InputError: the disk is full.
        """
        self._pending += text.encode("utf-8")
        self._starts.append(self._written + len(self._pending))
        if len(self._pending) >= _WRITE_BYTES:
            self._write()
        return len(self._starts) - 2

    def read(self, places: Iterable[int]) -> list[str]:
        """The texts at these places.

        Raises:
            InputError: the disk is full.
        """
        with self._lock:
            self._write()
        file, starts = self._file.fileno(), self._starts
        return [os.pread(file, starts[i + 1] - starts[i], starts[i]).decode("utf-8") for i in places]

    def _write(self) -> None:
        try:
            while self._pending:
                count = self._file.write(self._pending)
                self._written += count
                del self._pending[:count]
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise InputError(
                f"no space left on the disk in {tempfile.gettempdir()}, after {self._written >> 20:,} MiB of the "
                "corpus's rows; free some space, or set TMPDIR to a folder with more, then run again"
            ) from error
