"""Messages as chat templates take them, checked: nothing that a template might read is dropped in silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from fishersft.data.examples import Conversation
from fishersft.data.formats.values import filled, from_json, plain, string, wrong_type
from fishersft.data.readers import Row
from fishersft.errors import InputError

# What to do with rows that hold a prompt and no answer.
ANSWER_FIRST = (
    "to choose which prompts to have answered, run `fishersft select PROMPTS.jsonl --budget 100 --output chosen`, with "
    "--set corpus.example=prompt where other rows have answers; to train on them, add the answers first, as a column "
    "`completion` or as a turn of the assistant"
)
_STRINGS = ("name", "reasoning_content", "reasoning", "thinking")
_KNOWN = frozenset({"role", "content", "tool_calls", "tool_call_id", "weight", "train", *_STRINGS})
# transformers' own arguments beside the variables of a template; TRL passes them too, and fails on a second value.
_TAKEN_VARIABLES = {
    "add_generation_prompt",
    "chat_template",
    "conversation",
    "conversations",
    "messages",
    "return_assistant_tokens_mask",
    "return_dict",
    "tokenize",
    "tools",
}
_MEDIA_COLUMNS = ("image", "images", "video", "videos", "audio", "audios")


class Turns(NamedTuple):
    """Messages, and the places of those that the loss is told to leave out."""

    messages: list[dict[str, Any]]
    uncounted: list[int]

    def __add__(self, after: Turns) -> Turns:  # type: ignore[override]
        """These and then those."""
        moved = [place + len(self.messages) for place in after.uncounted]
        return Turns(self.messages + after.messages, self.uncounted + moved)


def said(role: str, content: str) -> Turns:
    """One message that a row's field of text stands for."""
    return Turns([{"role": role, "content": content}], [])


def turns_of(row: Row, value: Any, name: str, ignored: Collection[str]) -> Turns:
    """The messages of a field: a list of {role, content, …} or a JSON string of one.

    Args:
        value: the field's value.
        name: the field's name, for errors.
        ignored: keys of messages to leave out.

    Raises:
        InputError: it is no such list, or a message has a key that is not understood, or a part that is not text.
    """
    turns = Turns([], [])
    for i, item in enumerate(items_of(row, value, name, "a list of {role, content} messages")):
        if isinstance(item, dict) and len(item) == 2 and _is_simple(item):
            turns.messages.append({"role": item["role"], "content": item["content"]})
            continue
        message = _message(row, item, f"{name}[{i}]", ignored)
        add(row, turns, message, f"{name}[{i}]")
    return turns


def items_of(row: Row, value: Any, name: str, expected: str) -> list[Any]:
    """The items of a list, or of a JSON string of one; none for null.

    Raises:
        InputError: it is neither.
    """
    value = from_json(row, value, name, expected)
    if value is None:
        return []
    if not isinstance(value, list):
        wrong_type(row, value, name, expected)
    return value


def add(row: Row, turns: Turns, message: dict[str, Any], name: str) -> None:
    """Adds a message to the turns, without its weight and train, which say whether the loss counts it.

    Raises:
        InputError: weight is not 0 or 1, or train not true or false.
    """
    weight, train = message.pop("weight", None), message.pop("train", None)
    if weight not in (None, 0, 1):
        wrong_type(row, weight, f"{name}.weight", "0 or 1")
    if train is not None and not isinstance(train, bool):
        wrong_type(row, train, f"{name}.train", "true or false")
    if message["role"] == "assistant" and (weight == 0 or train is False):
        turns.uncounted.append(len(turns.messages))
    turns.messages.append(message)


def known_keys(
    row: Row, item: dict[str, Any], name: str, known: Collection[str], ignored: Collection[str]
) -> dict[str, Any]:
    """The keys of a message that hold something, without those to ignore.

    Raises:
        InputError: a key is not understood.
    """
    kept = {key: value for key, value in item.items() if value is not None and key not in ignored}
    if unknown := [str(key) for key in kept if key not in known]:
        raise InputError(
            f"{row.place}: {name} has the key {unknown[0]!r}, which we do not know and a chat template might read; "
            "remove it, or list it in corpus.ignore_message_keys to leave it out"
        )
    return kept


def text_of(row: Row, value: Any, name: str) -> str:
    """A message's content: a string, or a list of text parts, which are put together with nothing between them.

    Raises:
        InputError: a part is no text, such as an image.
    """
    if isinstance(value, list):
        return "".join([_part(row, part, f"{name}[{i}]") for i, part in enumerate(value)])
    if not isinstance(value, str):
        wrong_type(row, value, name, "a string or a list of text parts")
    return value


def conversation_of(row: Row, turns: Turns, name: str, prompt_turns: int | None = None) -> Conversation | None:
    """The conversation of these messages, with the row's tools; None where the loss counts nothing.

    Args:
        turns: the messages.
        name: the field they are from, for errors.
        prompt_turns: how many of them are the prompt; None: the loss counts all of the assistant's.

    Raises:
        InputError: the assistant says nothing after the prompt; or the row has images, or malformed tools.
    """
    refuse_media(row)
    messages, uncounted = turns
    answers = [i for i in range(prompt_turns or 0, len(messages)) if messages[i]["role"] == "assistant"]
    if messages and not answers:
        roles = ", ".join(sorted({message["role"] for message in messages[prompt_turns or 0 :]})) or "none"
        raise InputError(
            f"{row.place}: field {name!r} has no message with the role assistant, which the loss counts; "
            f"its roles are: {roles}{_to_have_answered(messages, prompt_turns)}"
        )
    if set(answers) <= set(uncounted):
        return None
    return Conversation(tuple(messages), tools_of(row), template_kwargs_of(row), prompt_turns, tuple(uncounted))


def _to_have_answered(messages: list[dict[str, Any]], prompt_turns: int | None) -> str:
    """What to do with a conversation that nobody has answered."""
    return f"; {ANSWER_FIRST}" if prompt_turns is None and messages[-1]["role"] == "user" else ""


def refuse_media(row: Row) -> None:
    """Raises an InputError for a row whose columns hold images, videos or audio, which no loss here would see."""
    for name in _MEDIA_COLUMNS:
        if name in row.data and filled(row.data[name]):
            raise InputError(
                f"{row.place} has something in its column {name!r}, and only text can be trained on; remove the row or "
                "the column, or set corpus.on_bad_row: skip"
            )


def _is_simple(item: dict[str, Any]) -> bool:
    return isinstance(item.get("role"), str) and isinstance(item.get("content"), str)


def _message(row: Row, item: Any, name: str, ignored: Collection[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        wrong_type(row, item, name, "an object with role and content")
    _require(row, item, "role", name)
    message = known_keys(row, item, name, _KNOWN, ignored)
    message["role"] = string(row, item["role"], f"{name}.role")
    if "tool_calls" in message:
        calls = _objects(row, message.pop("tool_calls"), f"{name}.tool_calls")
        message |= {"tool_calls": calls} if calls else {}
    if "content" in message:
        message["content"] = text_of(row, message["content"], f"{name}.content")
    elif "tool_calls" not in message:
        _require(row, item, "content", name)
        wrong_type(row, None, f"{name}.content", "a string, or come with tool_calls")
    for key in _STRINGS:
        if key in message:
            string(row, message[key], f"{name}.{key}")
    if "tool_call_id" in message:
        message["tool_call_id"] = plain(row, message["tool_call_id"], f"{name}.tool_call_id")
    return message


def _require(row: Row, item: dict[str, Any], key: str, name: str) -> None:
    if key not in item:
        raise InputError(
            f"{row.place}: {name} has no {key!r}; its keys are: {', '.join(map(str, item)) or 'none'}; "
            "rename them to role and content, or set corpus.example: sharegpt where they are from and value"
        )


def _part(row: Row, part: Any, name: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind != "text":
        raise InputError(
            f"{row.place}: {name} is a part of the type {str(kind)[:40]!r}, and only text can be trained on; remove "
            "the row or the part, or set corpus.on_bad_row: skip"
        )
    return string(row, part.get("text"), f"{name}.text")


def _objects(row: Row, value: Any, name: str) -> list[dict[str, Any]]:
    found = items_of(row, value, name, "a list of objects")
    for i, item in enumerate(found):
        if not isinstance(item, dict):
            wrong_type(row, item, f"{name}[{i}]", "an object")
    return plain(row, found, name)


def tools_of(row: Row) -> list[dict[str, Any]] | None:
    """The JSON schemas of functions in the row's column `tools`; None where there are none."""
    return _objects(row, row.data["tools"], "tools") or None if "tools" in row.data else None


def template_kwargs_of(row: Row) -> dict[str, Any] | None:
    """The variables of the chat template in the row's column `chat_template_kwargs`; None where there are none."""
    name = "chat_template_kwargs"
    if name not in row.data:
        return None
    found = from_json(row, row.data[name], name, "an object")
    if found is None:
        return None
    if not isinstance(found, dict):
        wrong_type(row, found, name, "an object")
    if taken := sorted(_TAKEN_VARIABLES & found.keys()):
        raise InputError(
            f"{row.place}: {name} has {taken[0]!r}, which SFTTrainer and FisherSFT set themselves; remove it"
        )
    return {key: value for key, value in plain(row, found, name).items() if value is not None} or None
