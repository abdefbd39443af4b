"""The rows of a dataset that the datasets library reads: from the Hugging Face hub, or a folder that it saved."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from fsspec.core import url_to_fs

from fishersft.config import CorpusConfig
from fishersft.data.locations import PACKAGE_PREFIX, display_name, remote_errors
from fishersft.errors import InputError


def dataset_rows(path: str, config: CorpusConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based number of the row, its values by the columns' names).

    Args:
        path: the dataset's name or folder.
        config: says its subset and split.

    Raises:
        InputError: the dataset cannot be loaded, or reading it broke off.
    """
    source = f"{display_name(path)}[{config.split}]"
    dataset, number = _dataset(path, config), 0
    try:
        for data in dataset:
            number += 1
            yield number, dict(data)
    except _dataset_errors() as error:
        raise InputError(
            f"the dataset {source} cannot be read after row {number}: {_cause(error)}; check its files, or run again "
            "if the connection was cut"
        ) from error


def _dataset(path: str, config: CorpusConfig) -> Iterable[dict[str, Any]]:
    import datasets

    try:
        if is_saved_dataset(path):
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


def is_saved_dataset(path: str) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    if path.startswith(PACKAGE_PREFIX) or ("://" not in path and not os.path.isdir(path)):
        return False
    filesystem, root = url_to_fs(path)
    marks = ("state.json", "dataset_dict.json")
    return any(filesystem.exists(f"{root.rstrip('/')}/{mark}") for mark in marks)
