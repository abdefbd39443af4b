"""Reading a corpus row by row, whatever its format; memory is bounded by a row, not by a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fishersft.config import CorpusConfig
from fishersft.data.csv_files import csv_rows
from fishersft.data.hub_datasets import dataset_rows, is_saved_dataset
from fishersft.data.json_files import json_objects
from fishersft.data.locations import Location, display_name, files_of
from fishersft.data.parquet_files import parquet_rows
from fishersft.data.rows import RESERVED_COLUMNS
from fishersft.data.text_files import blocks, lines
from fishersft.errors import InputError

_FORMATS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    ".parquet": "parquet",
}
# Read as lines, these would give rows that look like text and are none.
_NOT_LINES = (
    ".xlsx",
    ".xls",
    ".pdf",
    ".arrow",
    ".feather",
    ".zip",
    ".tar",
    ".tgz",
    ".7z",
    ".gz",
    ".zst",
    ".bz2",
    ".xz",
)
_MOST_BAD_ROWS = 20
_MOST_PASSED_OVER = 100


_Numbered = tuple[int, dict[str, Any] | InputError | None]
_READ: dict[str, Callable[[Location], Iterator[_Numbered]]] = {
    "csv": csv_rows,
    "jsonl": json_objects,
    "parquet": parquet_rows,
}


@dataclass(frozen=True)
class Row:
    """A row as it came in; `number` is its 1-based line (of a block: its first line) or row in the source."""

    data: dict[str, Any]
    source: str
    number: int

    @property
    def place(self) -> str:
        """Where the row is, for errors."""
        return f"{self.source}:{self.number}"


@dataclass
class ReadCounts:
    """What became of the rows of a corpus: `rows_read` is the sum of all the other counts.

    Attributes:
        bad: rows that are no example and lines that are no row, where `on_bad_row` skips them.
        sources: the files' names.
        passed_over: the names of files in the corpus's folders that nothing here reads.
        formats: how many of the rows that hold an example have which format, in words.
        bad_rows: what is wrong with the first 20 bad ones.
    """

    rows_read: int = 0
    blank: int = 0
    unmatched: int = 0
    bad: int = 0
    duplicates: int = 0
    beyond_max_rows: int = 0
    held_out: int = 0
    pool: int = 0
    sources: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    formats: dict[str, int] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)

    def skip_or_raise(self, error: InputError, config: CorpusConfig) -> None:
        """Counts a bad row where `on_bad_row` skips it; otherwise raises its error."""
        if config.on_bad_row == "stop":
            raise error
        self.bad += 1
        if len(self.bad_rows) < _MOST_BAD_ROWS:
            self.bad_rows.append(str(error))


def read_rows(config: CorpusConfig, counts: ReadCounts) -> Iterator[Row]:
    """The rows of a corpus, in the order of its files' names. Blank and unmatched ones are only counted.

    Columns that an earlier curated dataset added (see `RESERVED_COLUMNS`) are left out: the next one adds its own.

    Args:
        config: where the corpus is, how it is read, and whether lines that are no row are skipped.
        counts: takes up sources, passed_over, rows_read, blank, unmatched and bad, as reading goes on.

    Yields:
        Row: of text, its named groups under `pattern`, otherwise {"text": …}.

    Raises:
        InputError: a path matches nothing, a file's format is not known, the pattern is not usable, a row cannot
            be read, or reading broke off.
    """
    pattern = _compiled(config)
    for row in _all_rows(config, pattern, counts):
        for name in RESERVED_COLUMNS:
            row.data.pop(name, None)
        yield row


def file_signatures(config: CorpusConfig) -> list[tuple[str, str]] | None:
    """(name, signature) of each file of a corpus, without reading any: equal lists stand for equal rows and counts.

    None where a file has no signature, see `Location`, or a Hugging Face dataset's files are not ours to list.

    Raises:
        InputError: a path matches nothing.
    """
    if _is_dataset(config):
        return None
    files = files_of(config.path)
    known = [(location.name, location.signature) for location in files.found if location.signature is not None]
    return known + [(name, "passed over") for name in files.passed_over] if len(known) == len(files.found) else None


def _paths(config: CorpusConfig) -> list[str]:
    return [config.path] if isinstance(config.path, str) else config.path


def _is_dataset(config: CorpusConfig) -> bool:
    return config.format == "huggingface" or (
        config.format == "auto" and any(os.path.isdir(path) and is_saved_dataset(path) for path in _paths(config))
    )


def _compiled(config: CorpusConfig) -> re.Pattern[str] | None:
    if config.pattern is None:
        return None
    try:
        return re.compile(config.pattern)
    except re.error as error:
        raise InputError(f"corpus.pattern {config.pattern!r} is no regular expression: {error}") from error


def _all_rows(config: CorpusConfig, pattern: re.Pattern[str] | None, counts: ReadCounts) -> Iterator[Row]:
    if _is_dataset(config):
        _refuse_pattern(pattern, "huggingface")
        for path in _paths(config):
            source = f"{display_name(path)}[{config.split}]"
            counts.sources.append(source)
            yield from _checked_rows(source, dataset_rows(path, config), config, counts)
        return
    files = files_of(config.path)
    counts.passed_over += _first(files.passed_over)
    kinds = [(location, _kind(location, config.format)) for location in files.found]
    for location, kind in kinds:
        counts.sources.append(location.name)
        if kind == "lines":
            yield from _text_rows(location, lines(location), pattern, counts)
        elif kind == "blocks":
            yield from _text_rows(location, blocks(location), pattern, counts)
        else:
            _refuse_pattern(pattern, kind)
            yield from _checked_rows(location.name, _READ[kind](location), config, counts)


def _first(names: list[str]) -> list[str]:
    """The names, or the first of them and how many more there are: a folder may hold a million images."""
    more = len(names) - _MOST_PASSED_OVER
    return [*names[:_MOST_PASSED_OVER], f"… and {more:,} more"] if more > 0 else names


def _kind(location: Location, configured: str) -> str:
    kind = configured if configured != "auto" else _FORMATS.get(location.extension, "lines")
    if configured == "auto" and location.extension in _NOT_LINES:
        raise InputError(
            f"{location.name}: corpus.format auto does not read {location.extension} files; convert it to JSONL or "
            "Parquet, or set corpus.format: lines to take each of its lines as a text"
        )
    if kind == "parquet" and location.compression is not None:
        raise InputError(
            f"{location.name} is Parquet inside {location.compression}; decompress it: Parquet is compressed"
        )
    return kind


def _refuse_pattern(pattern: re.Pattern[str] | None, kind: str) -> None:
    if pattern is not None:
        raise InputError(f"corpus.pattern is for lines and blocks only, but the format is {kind}; remove it")


def _text_rows(
    location: Location,
    texts: Iterator[tuple[int, str]],
    pattern: re.Pattern[str] | None,
    counts: ReadCounts,
) -> Iterator[Row]:
    for number, text in texts:
        counts.rows_read += 1
        if not text.strip():
            counts.blank += 1
            continue
        match = pattern.fullmatch(text) if pattern is not None else None
        if pattern is not None and match is None:
            counts.unmatched += 1
            continue
        yield Row((match.groupdict() if match else {}) or {"text": text}, location.name, number)


def _checked_rows(source: str, found: Iterator[_Numbered], config: CorpusConfig, counts: ReadCounts) -> Iterator[Row]:
    for number, value in found:
        counts.rows_read += 1
        if value is None:
            counts.blank += 1
        elif isinstance(value, InputError):
            counts.skip_or_raise(value, config)
        else:
            yield Row(value, source, number)
