"""Prompts without answers: rows that hold nothing else, and rows whose answer is left out."""

from __future__ import annotations

from typing import Any

from fishersft.config import CorpusConfig
from fishersft.data.examples import Prompt
from fishersft.data.formats.alpaca import with_context
from fishersft.data.formats.detection import is_sharegpt
from fishersft.data.formats.messages import refuse_media, template_kwargs_of, tools_of, turns_of
from fishersft.data.formats.sharegpt import sharegpt_turns
from fishersft.data.formats.values import field, wrong_type
from fishersft.data.readers import Row
from fishersft.errors import InputError

_REMEDY = "set corpus.prompt_field or corpus.messages_field to one of them"
_TO_BE_ANSWERED = ("user", "tool")


def prompt_of(row: Row, config: CorpusConfig, name: str) -> Prompt | None:
    """What the assistant is to answer; None where it is blank. An answer that the row has already is left out.

    Args:
        name: the field that holds the prompt: a string, or a list of messages, of which those of the assistant at the
            end are the answer.

    Raises:
        InputError: the field is missing or of the wrong type, or no turn of a user is there to be answered.
    """
    value = field(row, name, _REMEDY)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and name in (config.prompt_field, "instruction"):
        refuse_media(row)
        return Prompt(with_context(row, value, ("input",)) if name == "instruction" else value)
    if not isinstance(value, (str, list)):
        wrong_type(row, value, name, "a string or a list of messages")
    read = sharegpt_turns if is_sharegpt(row, name) else turns_of
    messages = read(row, value, name, config.ignore_message_keys).messages
    return _of_messages(row, messages, name) if messages else None


def _of_messages(row: Row, messages: list[dict[str, Any]], name: str) -> Prompt:
    refuse_media(row)
    roles = [message["role"] for message in messages]
    asked = next((place for place in range(len(roles), 0, -1) if roles[place - 1] != "assistant"), 0)
    if not asked or roles[asked - 1] not in _TO_BE_ANSWERED:
        raise InputError(
            f"{row.place}: field {name!r} has no turn of a user that the assistant is to answer; its roles are: "
            f"{', '.join(roles)}; add one, or leave the row out"
        )
    return Prompt(tuple(messages[:asked]), tools_of(row), template_kwargs_of(row))
