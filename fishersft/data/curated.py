"""The curated dataset, what a user came for: the chosen rows as JSONL and Parquet, with a dataset card."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.data.card import CardFacts, dataset_card
from fishersft.data.keys import file_digest
from fishersft.data.rows import RESERVED_COLUMNS


def write_curated(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    ranks: Sequence[int],
    gains: Sequence[float],
    tokens: Sequence[int],
    card: CardFacts,
) -> None:
    """Writes `curated.jsonl`, `curated.parquet` and the card `README.md`, for `load_dataset` to read.

    Args:
        folder: local; made if it is missing.
        rows: the chosen rows as they were read, (n,), in the order to write them.
        ranks: 1-based place in the order of choosing, (n,).
        gains: marginal gain when it was chosen, nats, (n,).
        tokens: loss tokens, (n,).
        card: what the card says about the selection.

    Raises:
        ValueError: the lengths differ.
    """
    added = zip(ranks, gains, tokens, strict=True)
    whole = [{**row, **dict(zip(RESERVED_COLUMNS, more, strict=True))} for row, more in zip(rows, added, strict=True)]
    table, as_json = _table(whole)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curated.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in whole:
            file.write(_json(row) + "\n")
    pq.write_table(table, folder / "curated.parquet")
    (folder / "README.md").write_text(
        dataset_card(card, rows, as_json, file_digest(folder / "curated.parquet")), encoding="utf-8", newline="\n"
    )


def _table(rows: list[dict[str, Any]]) -> tuple[pa.Table, list[str]]:
    """The rows as Arrow columns, and the names of those that had to become JSON strings."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns, as_json = dict[str, pa.Array](), list[str]()
    for name in names:
        values = [row.get(name) for row in rows]
        column = _column(values)
        if column is None:
            as_json.append(name)
            column = pa.array([None if value is None else _json(value) for value in values], pa.string())
        columns[name] = column
    return pa.table(columns), as_json


def _column(values: list[Any]) -> pa.Array | None:
    """The values as one Arrow column, or None if it would change them or Parquet can't hold it."""
    try:
        column = pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
    if not _storable(column.type):
        return None
    same = all(_same(value, stored) for value, stored in zip(values, column.to_pylist(), strict=True))
    return column if same else None


def _storable(kind: pa.DataType) -> bool:
    """Parquet has no structs without fields, and datasets no extension types."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_storable(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    return not isinstance(kind, pa.BaseExtensionType)


def _same(value: Any, stored: Any) -> bool:
    """Whether Arrow kept the value; in a struct it adds the keys that other rows have, as nulls."""
    if isinstance(value, dict):
        return (
            isinstance(stored, dict)
            and all(key in stored and _same(item, stored[key]) for key, item in value.items())
            and all(item is None for key, item in stored.items() if key not in value)
        )
    if isinstance(value, list):
        return (
            isinstance(stored, list)
            and len(value) == len(stored)
            and all(_same(item, kept) for item, kept in zip(value, stored, strict=True))
        )
    if isinstance(value, float) and math.isnan(value):
        return isinstance(stored, float) and math.isnan(stored)
    if isinstance(value, int) and isinstance(stored, float):
        return not isinstance(value, bool) and value == stored
    return isinstance(stored, type(value)) and bool(value == stored)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """The value in JSON's own types; the card says how."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    for kinds, convert in _TO_JSON:
        if isinstance(value, kinds):
            return convert(value)
    return str(value)


_TO_JSON: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (float, lambda value: value if math.isfinite(value) else None),
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    (bytes, lambda value: base64.b64encode(value).decode("ascii")),
)
