"""Finding a row's format from the names of its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fishersft.config import CorpusConfig
from fishersft.data.formats.values import fields_of, filled, from_json
from fishersft.data.readers import Row
from fishersft.errors import InputError

ANSWERS = ("output", "response")
CONTEXTS = ("input", "context")
CONVERSATIONS = "conversations"

_DEFAULTS = {
    "messages_field": ("messages", "messages"),
    "prompt_field": ("prompt", "prompt-completion"),
    "completion_field": ("completion", "prompt-completion"),
    "text_field": ("text", "text"),
}


class Format(NamedTuple):
    """A row's format: one of the values of `corpus.example` but auto, and for conversations the field they are in."""

    kind: str
    field: str = ""


def format_of(row: Row, config: CorpusConfig) -> Format:
    """The format that the config names, or the one that the row's fields show.

    A field name that the config sets to another than the default decides. Otherwise the first of these whose fields
    hold something: messages, conversations, prompt and completion, chosen, instruction and output or response, text;
    and where none does, the first whose fields are there at all.

    Raises:
        InputError: the row fits none of the formats.
    """
    if config.example != "auto":
        return Format(config.example, _conversation_field(row, config))
    if named := _named(config):
        kind = named
        if kind == "messages" and _is_sharegpt(row, config.messages_field):
            kind = "sharegpt"
        return Format(kind, config.messages_field)
    found = _by_fields(row, filled) or _by_fields(row, _anything)
    if found is not None:
        return found
    raise InputError(
        f"{row.place} fits no format that we read; its fields are: {fields_of(row)}; expected one of: messages; "
        "conversations; prompt and completion; chosen; instruction and output or response; text. Rename the fields, or "
        "name them by corpus.text_field, corpus.messages_field, or corpus.prompt_field and corpus.completion_field"
    )


def format_in_words(row: Row, config: CorpusConfig) -> str:
    """A row's format as people are told it, such as "ShareGPT conversations (conversations: from/value)".

    Raises:
        InputError: the row fits none of the formats.
    """
    kind, name = format_of(row, config)
    if kind == "sharegpt":
        return f"ShareGPT conversations ({name}: from/value)"
    if kind == "messages":
        return "messages (role/content)" if name == "messages" else f"messages ({name}: role/content)"
    if kind == "alpaca":
        context = context_field(row.data)
        about = f"/{context}" if context in row.data else ""
        return f"Alpaca (instruction{about}/{answer_field(row.data)})"
    if kind == "prompt-completion":
        names = (config.prompt_field, config.completion_field)
        return "prompt and completion" + (f" ({'/'.join(names)})" if names != ("prompt", "completion") else "")
    return "preference data, by chosen" if kind == "preference" else f"text ({config.text_field})"


def answer_field(data: dict[str, Any]) -> str:
    """The field of an Alpaca row's answer: the first that holds something."""
    return _first_filled(data, ANSWERS)


def context_field(data: dict[str, Any]) -> str:
    """The field of what an Alpaca row's instruction is about: the first that holds something."""
    return _first_filled(data, CONTEXTS)


def _first_filled(data: dict[str, Any], names: Sequence[str]) -> str:
    there = [name for name in names if name in data] or names
    return next((name for name in there if filled(data.get(name))), there[0])


def _by_fields(row: Row, enough: Callable[[Any], bool]) -> Format | None:
    """The first format whose fields hold enough."""
    data = row.data
    for name in ("messages", CONVERSATIONS):
        if name in data and enough(data[name]) and _may_be_turns(data[name]):
            return Format("sharegpt" if _is_sharegpt(row, name) else "messages", name)
    if "prompt" in data and "completion" in data and enough(data["completion"]):
        return Format("prompt-completion")
    if "chosen" in data and enough(data["chosen"]):
        return Format("preference")
    if "instruction" in data and any(name in data and enough(data[name]) for name in ANSWERS):
        return Format("alpaca")
    return Format("text") if "text" in data and enough(data["text"]) else None


def _named(config: CorpusConfig) -> str | None:
    """The format that a configured field name stands for."""
    for setting, (default, kind) in _DEFAULTS.items():
        if getattr(config, setting) != default:
            return kind
    return None


def _conversation_field(row: Row, config: CorpusConfig) -> str:
    """The field that holds the conversation where the config names the format."""
    own, other = config.messages_field, CONVERSATIONS
    if config.example == "sharegpt" and own == "messages":
        own, other = other, own
    return other if own not in row.data and other in row.data and config.messages_field == "messages" else own


def _is_sharegpt(row: Row, name: str) -> bool:
    """Whether the first turn has `from` and no `role`."""
    value = row.data.get(name)
    if isinstance(value, str):
        value = from_json(row, value, name, "a list of messages")
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("role") is None and first.get("from") is not None


def _may_be_turns(value: Any) -> bool:
    """Whether a field that is called as conversations are may hold one: other tables count or name messages so."""
    if isinstance(value, str):
        return value.lstrip()[:1] in {"", "[", "{"}
    return value is None or isinstance(value, (list, dict))


def _anything(value: Any) -> bool:
    return True
