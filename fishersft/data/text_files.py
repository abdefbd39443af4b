"""UTF-8 text from a location in pieces: lines, blocks, chunks. No more than one of them is held in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from fishersft.data.locations import Location
from fishersft.errors import InputError

_CHUNK_BYTES = 1 << 20


def lines(location: Location) -> Iterator[tuple[int, str]]:
    """(1-based number, line without its line end).

    Raises:
        InputError: the file is not valid UTF-8, naming line and byte; or reading it broke off.
    """
    for number, line in checked_lines(location):
        if isinstance(line, InputError):
            raise line
        yield number, line.removesuffix("\r")


def checked_lines(location: Location) -> Iterator[tuple[int, str | InputError]]:
    """(1-based number, line without its newline, or the error for one that is not valid UTF-8).

    Raises:
        InputError: reading the file broke off.
    """
    for number, (start, raw) in enumerate(_raw_lines(location), 1):
        try:
            # A byte order mark is no part of the text.
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, _not_utf8(location, number, start + error.start, raw[error.start])


def blocks(location: Location) -> Iterator[tuple[int, str]]:
    """(1-based number of its first line, the lines up to a blank one, each without trailing whitespace).

    Raises:
        InputError: the file is not valid UTF-8, naming line and byte; or reading it broke off.
    """
    first, block = 0, list[str]()
    for number, line in lines(location):
        stripped = line.rstrip()
        if stripped:
            first = first if block else number
            block.append(stripped)
        elif block:
            yield first, "\n".join(block)
            block.clear()
    if block:
        yield first, "\n".join(block)


def chunks(location: Location) -> Iterator[str]:
    """The text in pieces of about 1 MiB, for formats that lines mean nothing to.

    Raises:
        InputError: the file is not valid UTF-8, naming line and byte; or reading it broke off.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, start = 1, 0
    with location.open() as file:
        while True:
            raw = file.read(_CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                yield decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                # The error's positions count from the bytes that were left of the chunk before.
                line += error.object[: error.start].count(b"\n")
                position = start - pending + error.start
                raise _not_utf8(location, line, position, error.object[error.start]) from error
            if not raw:
                return
            line += raw.count(b"\n")
            start += len(raw)


def _raw_lines(location: Location) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line without its newline); fsspec's own readline reads a remote block for every line."""
    rest, start = bytearray(), 0
    with location.open() as file:
        while chunk := file.read(_CHUNK_BYTES):
            *complete, tail = chunk.split(b"\n")
            for piece in complete:
                rest += piece
                yield start, bytes(rest)
                start += len(rest) + 1
                rest.clear()
            rest += tail
    if rest:
        yield start, bytes(rest)


def _not_utf8(location: Location, line: int, position: int, byte: int) -> InputError:
    return InputError(
        f"{location.name}:{line} is not valid UTF-8 at byte {position} of the file (0x{byte:02x}); convert "
        "it, e.g. iconv -f WINDOWS-1252 -t UTF-8, or set corpus.format if it is not text"
    )
