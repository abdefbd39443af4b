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
from fishersft.data.json_files import json_objects
from fishersft.data.locations import PACKAGE_PREFIX, Location, display_name, expand, remote_errors
from fishersft.data.rows import RESERVED_COLUMNS
from fishersft.data.text_files import blocks, lines
from fishersft.errors import InputError

_FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
# Read as lines, these would give rows that look like text and are none.
_NOT_LINES = (".csv", ".tsv", ".xlsx", ".xls", ".pdf", ".arrow", ".feather", ".zip", ".gz")
_BATCH_ROWS = 1024


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
    """What became of the rows of a corpus: `rows_read` is the sum of all the other counts."""

    rows_read: int = 0
    blank: int = 0
    unmatched: int = 0
    duplicates: int = 0
    beyond_max_rows: int = 0
    held_out: int = 0
    pool: int = 0
    sources: list[str] = field(default_factory=list)


def read_rows(config: CorpusConfig, counts: ReadCounts) -> Iterator[Row]:
    """The rows of a corpus, in the order of its files' names. Blank and unmatched ones are only counted.

    Args:
        config: where the corpus is and how it is read.
        counts: takes up sources, rows_read, blank and unmatched, as reading goes on.

    Yields:
        Row: of text, its named groups under `pattern`, otherwise {"text": …}.

    Raises:
        InputError: a path matches nothing, a file's format is not known, the pattern is not usable, a row cannot
            be read, or reading broke off.
    """
    pattern = _compiled(config)
    for row in _all_rows(config, pattern, counts):
        reserved = [name for name in RESERVED_COLUMNS if name in row.data]
        if reserved:
            raise InputError(
                f"{row.place} has the column {reserved[0]}, which the curated dataset adds itself; "
                "rename or remove it in the corpus"
            )
        yield row


def file_signatures(config: CorpusConfig) -> list[tuple[str, str]] | None:
    """(name, signature) of each file of a corpus, without reading any: equal lists stand for equal rows.

    None where a file has no signature, see `Location`, or a Hugging Face dataset's files are not ours to list.

    Raises:
        InputError: a path matches nothing.
    """
    if _is_dataset(config):
        return None
    found = [(location.name, location.signature) for location in expand(config.path)]
    known = [(name, signature) for name, signature in found if signature is not None]
    return known if len(known) == len(found) else None


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
    kinds = [(location, _kind(location, config.format)) for location in expand(config.path)]
    for location, kind in kinds:
        counts.sources.append(location.name)
        if kind == "lines":
            yield from _text_rows(location, lines(location), pattern, counts)
        elif kind == "blocks":
            yield from _text_rows(location, blocks(location), pattern, counts)
        else:
            _refuse_pattern(pattern, kind)
            yield from (_json_rows if kind == "jsonl" else _parquet_rows)(location, counts)


def _kind(location: Location, configured: str) -> str:
    if configured != "auto":
        return configured
    if location.extension in _NOT_LINES:
        raise InputError(
            f"{location.name}: corpus.format auto does not read {location.extension} files; convert it to JSONL or "
            "Parquet, or set corpus.format: lines to take each of its lines as a text"
        )
    return _FORMATS.get(location.extension, "lines")


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


def _json_rows(location: Location, counts: ReadCounts) -> Iterator[Row]:
    for number, value in json_objects(location):
        counts.rows_read += 1
        if value is None:
            counts.blank += 1
        else:
            yield Row(value, location.name, number)


def _parquet_rows(location: Location, counts: ReadCounts) -> Iterator[Row]:
    number = 0
    with location.open() as file:
        try:
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(batch_size=_BATCH_ROWS):
                for data in batch.to_pylist():
                    number += 1
                    counts.rows_read += 1
                    yield Row(data, location.name, number)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise InputError(
                f"{location.name} cannot be read as Parquet after row {number}: {display_name(str(error))}; "
                "is it whole? If the connection was cut, run again"
            ) from error


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
