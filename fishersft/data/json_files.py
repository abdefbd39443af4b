"""The objects of a JSON file: one a line, or the elements of one array, one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from fishersft.data.locations import Location
from fishersft.data.text_files import checked_lines, chunks
from fishersft.errors import InputError

# Reading on for the end of a broken element has to stop somewhere before memory does.
_LARGEST_ELEMENT = 1 << 26
_CHUNK_BYTES = 1 << 16
_EXAMPLE = 'such as {"text": "…"}'
_WHITESPACE = re.compile(r"\s*")


def json_objects(location: Location) -> Iterator[tuple[int, dict[str, Any] | InputError | None]]:
    """(1-based number of the line, or of the element of an array; its object, None for a blank line).

    A line or element that holds no object is given as the error that says so, and reading goes on after it.

    Raises:
        InputError: an array is not JSON or not whole, or reading the file broke off.
    """
    read = _elements if _starts_array(location) else _line_values
    for number, value, source in read(location):
        if isinstance(value, InputError) or (value is None and not source.strip()):
            yield number, value
        else:
            yield number, _fault(value, source, f"{location.name}:{number}") or value


def _starts_array(location: Location) -> bool:
    with location.open() as file:
        while chunk := file.read(_CHUNK_BYTES):
            if text := chunk.removeprefix(codecs.BOM_UTF8).lstrip():
                return text.startswith(b"[")
    return False


def _fault(value: Any, source: str, place: str) -> InputError | None:
    """The error for a value that is no object of whole characters."""
    if not isinstance(value, dict):
        return InputError(f"{place} holds {_kind(value)}; expected an object, {_EXAMPLE}")
    # Only an escape can smuggle in half of a surrogate pair, which no file or tokenizer can hold.
    if "\\ud" in source or "\\uD" in source:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            surrogate = ord(error.object[error.start])
            return InputError(
                f"{place} holds \\u{surrogate:04x}, half of a surrogate pair and no character; "
                "repair or remove that row"
            )
    return None


def _kind(value: Any) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array"}
    return names.get(type(value), "null")


def _line_values(location: Location) -> Iterator[tuple[int, Any, str]]:
    for number, line in checked_lines(location):
        if isinstance(line, InputError) or not line.strip():
            yield number, line if isinstance(line, InputError) else None, ""
            continue
        try:
            yield number, json.loads(line), line
        except (ValueError, RecursionError) as error:
            fault = f"{location.name}:{number} is not JSON: {error}; expected an object a line, or one array"
            yield number, InputError(fault), ""


def _elements(location: Location) -> Iterator[tuple[int, Any, str]]:
    text = _Ahead(chunks(location))
    text.skip("[")
    number = 1
    while (begins := text.peek()) != "]":
        place = f"{location.name}:{number}"
        if not begins:
            raise InputError(f"{place} is missing: the file ends inside its array; is it whole?")
        if begins != "{":
            raise InputError(f"{place} begins with {begins!r}; expected an object, {_EXAMPLE}")
        yield number, *text.take_object(place)
        if text.peek() == ",":
            text.skip(",")
        elif text.peek() not in ("]", ""):
            raise InputError(f"{place} is followed by {text.peek()!r}; expected a comma or the array's ]")
        number += 1
    text.skip("]")
    if text.peek():
        raise InputError(f"{location.name} goes on after its array with {text.peek()!r}; expected one array")


class _Ahead:
    """A text that comes in pieces, read on only as far as its next value needs."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no whitespace; empty at the end."""
        while True:
            self._at = _WHITESPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read_on(1):
                return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> None:
        """Goes past the next character, which is known."""
        assert self.peek() == character
        self._at += 1

    def take_object(self, place: str) -> tuple[Any, str]:
        """The value that begins here, and its text."""
        while True:
            begin, unread = self._at, len(self._text) - self._at
            try:
                value, self._at = self._decoder.raw_decode(self._text, begin)
                return value, self._text[begin : self._at]
            except RecursionError as error:
                raise InputError(f"{place} is nested too deeply to be read") from error
            except ValueError as error:
                # Twice as much each time keeps the cost of beginning again linear.
                if unread > _LARGEST_ELEMENT or not self._read_on(unread):
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else error
                    raise InputError(f"{place} is not JSON: {reason}") from error

    def _read_on(self, characters: int) -> bool:
        """Drops what is done with and adds at least so many characters; False at the end of the text."""
        added = list[str]()
        while sum(map(len, added)) < characters and (piece := next(self._pieces, None)) is not None:
            added.append(piece)
        self._text, self._at = self._text[self._at :] + "".join(added), 0
        return any(added)
