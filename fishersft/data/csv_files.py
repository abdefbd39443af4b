"""The rows of a CSV or TSV file, every value as the text that stands there."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator

from fishersft.data.locations import Location
from fishersft.data.text_files import checked_lines
from fishersft.errors import InputError

# A quote that is never closed would otherwise take the rest of the file into memory.
_LARGEST_VALUE = 1 << 26


def csv_rows(location: Location) -> Iterator[tuple[int, dict[str, str] | InputError | None]]:
    """(1-based number of the line where the row begins; its values by the header's names, None for a blank line).

    Values are never guessed at: "007" stays "007", and an empty one is "". A row with more or fewer values than the
    header is given as the error that says so, and reading goes on after it.

    Args:
        location: a file of comma-separated values, or tab-separated ones where its extension is .tsv.

    Raises:
        InputError: the header has two columns of one name, or none; a quote is not closed or followed by text; the file
            is not valid UTF-8; or reading it broke off.
    """
    csv.field_size_limit(_LARGEST_VALUE)
    delimiter = "\t" if location.extension == ".tsv" else ","
    reader = csv.reader(_lines(location), delimiter=delimiter, strict=True)
    header, begins = list[str](), 1
    try:
        for values in reader:
            if not header and values:
                header = _checked(values, location, begins)
            elif header:
                yield begins, _row(header, values, f"{location.name}:{begins}")
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{location.name}:{begins} cannot be read as CSV: {error}; a quote inside a quoted value is written twice"
        ) from error


def _lines(location: Location) -> Iterator[str]:
    for _, line in checked_lines(location):
        if isinstance(line, InputError):
            raise line
        yield line + "\n"


def _checked(header: list[str], location: Location, line: int) -> list[str]:
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise InputError(
            f"{location.name}:{line} has several columns of the name {twice[0]!r}; rename all but one, and keep the "
            "header in the first line"
        )
    return header


def _row(header: list[str], values: list[str], place: str) -> dict[str, str] | InputError | None:
    if not values:
        return None
    if len(values) != len(header):
        return InputError(
            f"{place} has {len(values)} values, but the header has {len(header)} columns; repair or remove the row, "
            "and put values that hold the delimiter in quotes"
        )
    return dict(zip(header, values, strict=True))
