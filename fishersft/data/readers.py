"""Reading a corpus row by row, whatever its format; memory is bounded by a row, not by a file."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from fishersft.config import CorpusConfig
from fishersft.data.csv_files import csv_rows
from fishersft.data.json_files import json_objects
from fishersft.data.locations import PACKAGE_PREFIX, Location, display_name, files_of, remote_errors
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
_BATCH_ROWS = 1024
_MOST_BAD_ROWS = 20
_MOST_PASSED_OVER = 100


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
        config.format == "auto" and any(os.path.isdir(path) and _is_saved_dataset(path) for path in _paths(config))
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
            yield from _huggingface_rows(path, config, counts)
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
            if kind == "parquet":
                yield from _parquet_rows(location, counts)
            else:
                read = csv_rows if kind == "csv" else json_objects
                yield from _checked_rows(location, read(location), config, counts)


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


def _checked_rows(
    location: Location,
    found: Iterator[tuple[int, dict[str, Any] | InputError | None]],
    config: CorpusConfig,
    counts: ReadCounts,
) -> Iterator[Row]:
    for number, value in found:
        counts.rows_read += 1
        if value is None:
            counts.blank += 1
        elif isinstance(value, InputError):
            counts.skip_or_raise(value, config)
        else:
            yield Row(value, location.name, number)


def _parquet_rows(location: Location, counts: ReadCounts) -> Iterator[Row]:
    number = 0
    with location.open() as file:
        try:
            table = pq.ParquetFile(file, pre_buffer=False)
            _refuse_twins(table.schema_arrow, location.name)
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for data in batch.to_pylist():
                    number += 1
                    counts.rows_read += 1
                    yield Row(data, location.name, number)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise InputError(
                f"{location.name} cannot be read as Parquet after row {number}: {display_name(str(error))}; "
                "is it whole? If the connection was cut, run again"
            ) from error


def _refuse_twins(fields: pa.Schema | pa.StructType, name: str) -> None:
    """Refuses columns or keys of one name, of which a row could keep only one."""
    names = [fields.field(i).name for i in range(len(fields.names))]
    for i, twin in enumerate(names):
        if twin in names[:i]:
            raise InputError(f"{name} has several columns of the name {twin!r}; rename or drop all but one")
        kind = fields.field(i).type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            _refuse_twins(kind, f"{name}, {twin}")


def _huggingface_rows(path: str, config: CorpusConfig, counts: ReadCounts) -> Iterator[Row]:
    source = f"{display_name(path)}[{config.split}]"
    counts.sources.append(source)
    dataset, number = _dataset(path, config), 0
    try:
        for data in dataset:
            number += 1
            counts.rows_read += 1
            yield Row(dict(data), source, number)
    except _dataset_errors() as error:
        raise InputError(
            f"the dataset {source} cannot be read after row {number}: {_cause(error)}; check its files, or run again "
            "if the connection was cut"
        ) from error


def _dataset(path: str, config: CorpusConfig) -> Iterable[dict[str, Any]]:
    import datasets

    try:
        if _is_saved_dataset(path):
            saved = datasets.load_from_disk(path)
            return saved[config.split] if isinstance(saved, datasets.DatasetDict) else saved
        # From the hub all rows are downloaded once, and the next run finds them in the library's cache.
        # A folder is there already; streaming saves the copy in that cache.
        return datasets.load_dataset(path, name=config.subset, split=config.split, streaming=os.path.isdir(path))
    except _dataset_errors() as error:
        raise InputError(
            f"the dataset {display_name(path)} cannot be loaded with corpus.subset {config.subset!r} and "
            f"corpus.split {config.split!r}: {_cause(error)}"
        ) from error


def _dataset_errors() -> tuple[type[Exception], ...]:
    """What datasets raises where files are broken, missing or out of reach: its readers' own errors, mostly."""
    from datasets.exceptions import DatasetsError

    # ValueError: also those of pandas' and Arrow's readers. EOFError and zlib.error: a compressed file cut short.
    broken = (pa.ArrowException, ValueError, KeyError, EOFError, zlib.error)
    return (DatasetsError, ImportError, *broken, *remote_errors())


def _cause(error: Exception) -> str:
    """Why, in short: a DatasetGenerationError itself says only that there was an error."""
    return display_name(str(error.__cause__ or error))


def _is_saved_dataset(path: str) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    if path.startswith(PACKAGE_PREFIX) or ("://" not in path and not os.path.isdir(path)):
        return False
    filesystem, root = url_to_fs(path)
    marks = ("state.json", "dataset_dict.json")
    return any(filesystem.exists(f"{root.rstrip('/')}/{mark}") for mark in marks)
