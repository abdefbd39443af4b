"""Rows as JSON strings and back without loss, so that a shard can hold any row in one column."""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from fishersft.errors import InputError

RESERVED_COLUMNS = ("fishersft_rank", "fishersft_gain", "fishersft_tokens")

# A value that JSON has no type for is an object {_TAG: type, "value": …}, and so is a dict with this key.
_TAG = "$type"


def encode_row(data: dict[str, Any]) -> str:
    """The row as a JSON string; `decode_row` gives back an equal one.

    JSON's own types, and also datetime (with its zone), date, time, timedelta, Decimal, bytes, tuples, UUIDs,
    pandas Timestamp and Timedelta (Parquet's nanoseconds), NaN and infinity.

    Raises:
        InputError: a value of another type, naming its field.
    """
    try:
        return json.dumps(
            {name: _encode(value, name) for name, value in data.items()},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except RecursionError as error:
        raise InputError("the row is nested too deeply to be stored; flatten or leave out the field") from error


def decode_row(text: str) -> dict[str, Any]:
    """The row that `encode_row` made this string of."""
    return {name: _decode(value) for name, value in json.loads(text).items()}


def _encode(value: Any, field: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)) or _is_finite(value):
        return value
    if isinstance(value, list):
        return [_encode(item, f"{field}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {_TAG: "tuple", "value": [_encode(item, f"{field}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return _encode_dict(value, field)
    for kind, (matches, encode, _) in _TYPES.items():
        if matches(value):
            return {_TAG: kind, "value": encode(value)}
    raise _unsupported(f"a {type(value).__module__}.{type(value).__qualname__}", field)


def _encode_dict(value: dict[Any, Any], field: str) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise _unsupported(f"a dict with the key {key!r}, which is no string", field)
    encoded = {key: _encode(item, f"{field}.{key}") for key, item in value.items()}
    return {_TAG: "dict", "value": encoded} if _TAG in encoded else encoded


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _unsupported(what: str, field: str) -> InputError:
    return InputError(
        f"field {field!r} holds {what}; convert it to text, numbers, lists or objects, or leave the field out"
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: _decode(item) for key, item in value.items()}
    kind, content = value[_TAG], value["value"]
    if kind == "dict":
        return {key: _decode(item) for key, item in content.items()}
    if kind == "tuple":
        return tuple(_decode(item) for item in content)
    return _TYPES[kind][2](content)


def _encode_datetime(value: datetime) -> list[Any]:
    zone = getattr(value.tzinfo, "key", None)
    clock = value if zone is None else value.replace(tzinfo=None)
    return [clock.isoformat(), zone, value.fold]


def _decode_datetime(content: list[Any]) -> datetime:
    text, zone, fold = content
    value = datetime.fromisoformat(text).replace(fold=fold)
    return value if zone is None else value.replace(tzinfo=ZoneInfo(zone))


def _encode_timestamp(value: Any) -> list[Any]:
    return [value.isoformat(), getattr(value.tzinfo, "key", None)]


def _decode_timestamp(content: list[Any]) -> Any:
    from pandas import Timestamp

    value = Timestamp(content[0])
    return value if content[1] is None else value.tz_convert(content[1])


def _decode_timedelta(content: str) -> Any:
    from pandas import Timedelta

    return Timedelta(content)


def _is_pandas(name: str) -> Callable[[Any], bool]:
    """Recognised by name: most corpora hold none, and importing pandas takes long."""
    return lambda value: type(value).__name__ == name and type(value).__module__.split(".")[0] == "pandas"


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


# kind -> (which values, to JSON, from JSON). The order counts: a Timestamp is a datetime, and that is a date.
_TYPES: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "float": (_is(float), repr, float),
    "timestamp": (_is_pandas("Timestamp"), _encode_timestamp, _decode_timestamp),
    "pandas-timedelta": (_is_pandas("Timedelta"), lambda value: value.isoformat(), _decode_timedelta),
    "datetime": (_is(datetime), _encode_datetime, _decode_datetime),
    "date": (_is(date), date.isoformat, date.fromisoformat),
    "time": (_is(time), time.isoformat, time.fromisoformat),
    "timedelta": (
        _is(timedelta),
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda content: timedelta(*content),
    ),
    "decimal": (_is(Decimal), str, Decimal),
    "bytes": (_is(bytes), lambda value: base64.b64encode(value).decode("ascii"), base64.b64decode),
    "uuid": (_is(uuid.UUID), str, uuid.UUID),
}
