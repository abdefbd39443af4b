"""Any row survives the way into a JSON string and back."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.data.rows import decode_row, encode_row
from fishersft.errors import InputError

KEYS = st.text(max_size=5) | st.just("$type") | st.just("value")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=10,
)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down (1, 1.0 and True are equal in Python)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, datetime):
        return left == right and left.utcoffset() == right.utcoffset() and left.fold == right.fold
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_every_row_comes_back_as_it_was(row: dict[str, Any]) -> None:
    text = encode_row(row)
    assert same(decode_row(text), row)
    json.loads(text, parse_constant=pytest.fail)


def test_nan_comes_back() -> None:
    row = decode_row(encode_row({"float": math.nan, "decimal": Decimal("NaN")}))
    assert math.isnan(row["float"])
    assert row["decimal"].is_nan()


def test_json_types_stay_readable() -> None:
    assert encode_row({"text": "Où?", "n": [1, 2.5, None, True]}) == '{"text":"Où?","n":[1,2.5,null,true]}'


def test_a_dict_that_looks_like_a_tagged_value_stays_a_dict() -> None:
    row = {"$type": "decimal", "value": {"$type": "decimal", "value": "1"}, "x": {"$type": {"$type": 1}}}
    assert decode_row(encode_row(row)) == row


def test_zones_keep_their_names() -> None:
    berlin = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    back = decode_row(encode_row({"when": berlin}))["when"]
    assert back == berlin
    assert back.tzinfo.key == "Europe/Berlin"
    assert back.utcoffset() == timedelta(hours=1)


def test_nanoseconds_from_parquet_survive() -> None:
    pandas = pytest.importorskip("pandas")
    row = {
        "naive": pandas.Timestamp("2024-01-02T03:04:05.123456789"),
        "aware": pandas.Timestamp("2024-07-02T03:04:05.123456789", tz="Europe/Berlin"),
        "span": pandas.Timedelta(1_234_567_891, unit="ns"),
    }
    back = decode_row(encode_row(row))
    assert back == row
    assert back["aware"].tz == row["aware"].tz
    assert back["naive"].nanosecond == 789


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": object()}, "field 'image' holds a builtins.object"),
        ({"a": {"b": [0, {1, 2}]}}, r"field 'a.b\[1\]' holds a builtins.set"),
        ({"a": {1: "x"}}, "field 'a' holds a dict with the key 1, which is no string"),
    ],
)
def test_what_cannot_be_stored_names_its_field(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_row(row)


def test_a_row_nested_too_deeply_is_an_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        encode_row({"deep": deep})


def test_examples_of_every_tagged_type() -> None:
    row = {
        "datetime": datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "date": date(2024, 1, 2),
        "time": time(3, 4, 5, 6),
        "timedelta": timedelta(days=-1, microseconds=1),
        "decimal": Decimal("1.50"),
        "bytes": b"\x00\xff",
        "tuple": (1, ("a", None)),
        "uuid": uuid.UUID(int=7),
        "infinity": -math.inf,
    }
    back = decode_row(encode_row(row))
    assert same(back, row)
    assert str(back["decimal"]) == "1.50"
