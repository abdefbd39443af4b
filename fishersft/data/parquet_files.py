"""The rows of a Parquet file, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.data.locations import Location, display_name
from fishersft.errors import InputError

_BATCH_ROWS = 1024


def parquet_rows(location: Location) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based number of the row, its values by the columns' names).

    Raises:
        InputError: two columns, or two keys of a struct, have one name; the file is broken; or reading it broke off.
    """
    number = 0
    with location.open() as file:
        try:
            table = pq.ParquetFile(file, pre_buffer=False)
            _refuse_twins(table.schema_arrow, location.name)
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for number, data in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                    yield number, data
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
