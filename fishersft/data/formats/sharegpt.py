"""ShareGPT's conversations: turns of `from` and `value`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fishersft.data.formats.messages import Turns, add, items_of, known_keys, said, text_of
from fishersft.data.formats.values import from_json, plain, string, wrong_type
from fishersft.data.readers import Row
from fishersft.errors import InputError

_CALLS = "function_call"
ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bing", "bard", "model"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    _CALLS: "assistant",
}
_KNOWN = frozenset({"from", "value", "weight", "train"})


def sharegpt_turns(row: Row, value: Any, name: str, ignored: Collection[str]) -> Turns:
    """The messages of a list of {from, value} turns, after the row's `system` where there is one.

    Args:
        value: the list, or a JSON string of it.
        name: the field's name, for errors.
        ignored: keys of turns to leave out.

    Raises:
        InputError: it is no such list, or a turn comes from somebody we do not know.
    """
    turns = Turns([], [])
    for i, item in enumerate(items_of(row, value, name, "a list of {from, value} turns")):
        if isinstance(item, dict) and len(item) == 2 and _is_simple(item):
            turns.messages.append({"role": ROLES[item["from"]], "content": item["value"]})
            continue
        place = f"{name}[{i}]"
        if not isinstance(item, dict):
            wrong_type(row, item, place, "an object with from and value")
        add(row, turns, _message(row, item, place, ignored), place)
    if turns.messages and turns.messages[0]["role"] != "system":
        return system_turn(row) + turns
    return turns


def system_turn(row: Row) -> Turns:
    """The message that a row's own column `system` stands for; none where it is missing, null or blank."""
    system = row.data.get("system")
    if system is None:
        return Turns([], [])
    text = string(row, system, "system")
    return said("system", text) if text.strip() else Turns([], [])


def _is_simple(item: dict[str, Any]) -> bool:
    sender = item.get("from")
    return isinstance(item.get("value"), str) and isinstance(sender, str) and sender in ROLES and sender != _CALLS


def _message(row: Row, item: dict[str, Any], place: str, ignored: Collection[str]) -> dict[str, Any]:
    for key in ("from", "value"):
        if key not in item:
            raise InputError(
                f"{row.place}: {place} has no {key!r}; its keys are: {', '.join(map(str, item)) or 'none'}; rename "
                "them to from and value, or set corpus.example: messages for turns of role and content"
            )
    turn = known_keys(row, item, place, _KNOWN, ignored)
    sender = string(row, item["from"], f"{place}.from")
    if sender not in ROLES:
        raise InputError(
            f"{row.place}: {place} is from {sender[:40]!r}; expected one of {', '.join(ROLES)}; rename it, or turn "
            "the conversations into messages of role and content"
        )
    said_by = {"role": ROLES[sender]} | {key: turn[key] for key in ("weight", "train") if key in turn}
    if sender == _CALLS:
        return said_by | {"tool_calls": _calls(row, item["value"], f"{place}.value")}
    return said_by | {"content": text_of(row, item["value"], f"{place}.value")}


def _calls(row: Row, value: Any, name: str) -> list[dict[str, Any]]:
    """One call or a list of several, each {name, arguments}."""
    expected = "an object with name and arguments, or a list of them"
    found = plain(row, from_json(row, value, name, expected), name)
    calls = found if isinstance(found, list) else [found]
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            wrong_type(row, value, name, expected)
    return [{"type": "function", "function": call} for call in calls]
