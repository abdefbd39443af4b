"""Finding a row's format from the names of its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fishersft.config import CorpusConfig
from fishersft.data.formats.messages import ANSWER_FIRST
from fishersft.data.formats.sharegpt import ROLES
from fishersft.data.formats.values import fields_of, filled, from_json
from fishersft.data.readers import Row
from fishersft.errors import InputError

ANSWERS = ("output", "response")
CONTEXTS = ("input", "context")
# Columns beside a prompt that other datasets keep answers in; a row with one of them is not without an answer.
_MAY_ANSWER = (
    *ANSWERS,
    *("outputs", "responses", "answer", "answers", "completions", "chosen", "rejected", "solution", "target", "reply"),
    *("generation", "generations", "label", "reference", "text"),
)
CONVERSATIONS = "conversations"

_DEFAULTS = {
    "messages_field": ("messages", "messages"),
    "prompt_field": ("prompt", "prompt-completion"),
    "completion_field": ("completion", "prompt-completion"),
    "text_field": ("text", "text"),
}


class Format(NamedTuple):
    """A row's format: one of the values of `corpus.example` but auto; for conversations and prompts their field."""

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
    if config.example == "prompt":
        return Format("prompt", _prompt_field(row, config))
    if config.example != "auto":
        return Format(config.example, _conversation_field(row, config))
    if named := _named(config):
        kind = named
        if kind == "messages" and is_sharegpt(row, config.messages_field):
            kind = "sharegpt"
        return Format(kind, config.messages_field)
    found = _by_fields(row, filled) or _by_fields(row, _anything)
    if found is not None:
        return found
    if is_unanswered(row, config):
        raise InputError(f"{row.place} holds a prompt without an answer; {ANSWER_FIRST}")
    raise InputError(
        f"{row.place} fits no format that we read; its fields are: {fields_of(row)}; expected one of: messages; "
        "conversations; prompt and completion; chosen; instruction and output or response; text. Rename the fields, or "
        "name them by corpus.text_field, corpus.messages_field, or corpus.prompt_field and corpus.completion_field"
    )


def is_unanswered(row: Row, config: CorpusConfig) -> bool:
    """Whether a row holds a prompt and no answer: no turn of the assistant, and nothing in a column of answers.

    Raises:
        InputError: a field of messages is a string that is no JSON.
    """
    name = _prompt_field(row, config)
    if not filled(row.data.get(name)) or any(filled(row.data.get(other)) for other in _answer_fields(config)):
        return False
    if _is_plain_prompt(row, name, config):
        return True
    roles = _roles(row, name)
    return roles[-1:] == ["user"] and "assistant" not in roles


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
    if kind == "prompt":
        return f"prompts ({name})" + (", answers left out" if _has_answer(row, name, config) else "")
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
            return Format("sharegpt" if is_sharegpt(row, name) else "messages", name)
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


def _prompt_field(row: Row, config: CorpusConfig) -> str:
    """The field that holds the prompt: a conversation's where there is one that may be of turns."""
    if config.prompt_field == _DEFAULTS["prompt_field"][0]:
        for name in (config.messages_field, CONVERSATIONS):
            if filled(row.data.get(name)) and _may_be_turns(row.data[name]):
                return name
        if "instruction" in row.data and config.prompt_field not in row.data:
            return "instruction"
    return config.prompt_field


def _has_answer(row: Row, name: str, config: CorpusConfig) -> bool:
    """Whether there is an answer to the prompt of this field."""
    beside = any(filled(row.data.get(other)) for other in _answer_fields(config))
    return beside or (not _is_plain_prompt(row, name, config) and _roles(row, name)[-1:] == ["assistant"])


def _answer_fields(config: CorpusConfig) -> tuple[str, ...]:
    return tuple(name for name in (config.completion_field, *_MAY_ANSWER) if name != config.prompt_field)


def _is_plain_prompt(row: Row, name: str, config: CorpusConfig) -> bool:
    """Whether the field holds the prompt as a text, and not a conversation."""
    return name in (config.prompt_field, "instruction") and isinstance(row.data.get(name), str)


def _roles(row: Row, name: str) -> list[Any]:
    """Who says each turn of a field, whether it has `role` or `from`."""
    turns = from_json(row, row.data[name], name, "a list of messages")
    items = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    return [turn.get("role") or ROLES.get(str(turn.get("from"))) for turn in items]


def is_sharegpt(row: Row, name: str) -> bool:
    """Whether the first turn of a field has `from` and no `role`."""
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
