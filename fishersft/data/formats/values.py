"""Values of a row's fields, checked: whatever is of another type is named with file, row and field."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fishersft.data.readers import Row
from fishersft.errors import InputError

_SHOWN = 40


def field(row: Row, name: str, remedy: str = "set corpus.example to what the rows hold") -> Any:
    """The value of a field.

    Args:
        remedy: what the error says to do.

    Raises:
        InputError: the row has no such field.
    """
    if name not in row.data:
        raise InputError(f"{row.place} has no field {name!r}; its fields are: {fields_of(row)}; {remedy}")
    return row.data[name]


def fields_of(row: Row) -> str:
    """The names of a row's fields, for errors."""
    return ", ".join(map(str, row.data)) or "none"


def string(row: Row, value: Any, name: str) -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        wrong_type(row, value, name, "a string")
    return value


def wrong_type(row: Row, value: Any, name: str, expected: str) -> NoReturn:
    """Raises the InputError for a value of another type than expected."""
    came = "null" if value is None else f"{type(value).__name__} ({str(value)[:_SHOWN]})"
    raise InputError(
        f"{row.place}: field {name!r} must be {expected}, but is {came}; convert it, or set corpus.example "
        "and its field names to what the rows hold"
    )


def from_json(row: Row, value: Any, name: str, expected: str) -> Any:
    """The value, or what it stands for where it is a JSON string; None for a blank one.

    Raises:
        InputError: the string is no JSON, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = json.loads(value)
        if "\\ud" in value.lower():
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{row.place}: field {name!r} must be {expected}, or a JSON string of it, but its text "
            f"{value[:_SHOWN]!r} is no JSON that can be read: {_reason(error)}; repair or remove the row"
        ) from error
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it holds half of a surrogate pair and so no character"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def plain(row: Row, value: Any, name: str) -> Any:
    """The value, made of JSON's own types only, as chat templates and examples' ids need it.

    Raises:
        InputError: something in it is of another type, such as a date or bytes.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(row, item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {string(row, key, f"a key of {name}"): plain(row, item, f"{name}.{key}") for key, item in value.items()}
    wrong_type(row, value, name, "text, a number, true, false, null, a list or an object")


def filled(value: Any) -> bool:
    """Whether a value says anything: not null, not blank, not an empty list or object."""
    return bool(value.strip()) if isinstance(value, str) else value is not None and value not in ([], {})
