"""What a row means as a training example: a text, a prompt and its completion, or a conversation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from fishersft.config import CorpusConfig
from fishersft.data.readers import Row
from fishersft.errors import InputError

ID_DIGITS = 12


@dataclass(frozen=True)
class _Canonical:
    """Examples are the same where their canonical JSON is, whatever else their rows hold."""

    def canonical(self) -> str:
        """The content as JSON with sorted keys and no spaces; what has its default is left out."""
        content = {of.name: getattr(self, of.name) for of in fields(self) if getattr(self, of.name) != of.default}
        return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode("utf-8")).hexdigest()

    @property
    def id(self) -> str:
        """The digest's first 12 digits: what people are shown, and what `selection.exclude` takes."""
        return self.digest[:ID_DIGITS]


@dataclass(frozen=True)
class TextExample(_Canonical):
    """The loss counts every token but the first."""

    text: str


@dataclass(frozen=True)
class PromptCompletion(_Canonical):
    """The loss counts the completion's tokens."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Conversation(_Canonical):
    """Messages, as a chat template takes them.

    Attributes:
        messages: each an object with `role`, mostly `content`, and whatever else the template may read: `tool_calls`,
            `tool_call_id`, `name`, `reasoning_content`. Only JSON's own types.
        tools: JSON schemas of the functions that the assistant may call.
        template_kwargs: further variables of the chat template, such as `enable_thinking`.
        prompt_turns: the loss counts everything after so many messages, as TRL does for prompt and completion; None: the
            assistant's turns, as TRL does with `assistant_only_loss`.
        uncounted: the places of messages that the loss leaves out all the same.
    """

    messages: tuple[dict[str, Any], ...]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] | None = None
    prompt_turns: int | None = None
    uncounted: tuple[int, ...] = ()


Example = TextExample | PromptCompletion | Conversation


def as_text(example: Example) -> str:
    """An example as one text, for people and for questions about it."""
    if isinstance(example, Conversation):
        return "\n".join(f"{message['role']}: {message.get('content', '')}" for message in example.messages)
    if isinstance(example, PromptCompletion):
        return f"{example.prompt}\n→ {example.completion}"
    return example.text


def example_of(row: Row, config: CorpusConfig) -> Example | None:
    """The example that a row holds; None if it is blank: no text where the loss is counted.

    Args:
        row: as read.
        config: says the kind of example and the names of its fields.

    Raises:
        InputError: a field is missing or of the wrong type, naming file, row, field and setting.
    """
    if config.example == "text":
        return _text(row, config.text_field)
    if config.example == "messages":
        return _conversation(row, _field(row, config.messages_field, "messages_field"), config.messages_field)
    return _prompt_completion(row, config)


def _text(row: Row, name: str) -> TextExample | None:
    value = _field(row, name, "text_field")
    if value is None:
        return None
    text = _string(row, value, name)
    return TextExample(text) if text.strip() else None


def _prompt_completion(row: Row, config: CorpusConfig) -> PromptCompletion | Conversation | None:
    prompt = _field(row, config.prompt_field, "prompt_field")
    completion = _field(row, config.completion_field, "completion_field")
    if completion is None:
        return None
    if isinstance(prompt, list) and isinstance(completion, list):
        return _conversational(row, prompt, completion, config)
    text = _string(row, completion, config.completion_field)
    if not text.strip():
        return None
    return PromptCompletion(_string(row, prompt, config.prompt_field), text)


def _conversational(row: Row, prompt: list[Any], completion: list[Any], config: CorpusConfig) -> Conversation | None:
    """TRL's conversational form: the same loss as a conversation's, unless the prompt has assistant turns."""
    turns = [_message(row, value, f"{config.prompt_field}[{i}]") for i, value in enumerate(prompt)]
    if any(turn["role"] == "assistant" for turn in turns):
        raise InputError(
            f"{row.place}: the prompt has an assistant's message, which the loss must not count; only "
            "plain strings can say so; render prompt and completion to text, or join them and set "
            "corpus.example to messages to count all assistant messages"
        )
    return _conversation(row, prompt + completion, f"{config.prompt_field} + {config.completion_field}")


def _conversation(row: Row, value: Any, name: str) -> Conversation | None:
    if value is None:
        return None
    if not isinstance(value, list):
        _wrong_type(row, value, name, "a list of {role, content} messages")
    messages = tuple(_message(row, item, f"{name}[{i}]") for i, item in enumerate(value))
    assistant = [message for message in messages if message["role"] == "assistant"]
    if messages and not assistant:
        roles = ", ".join(sorted({message["role"] for message in messages}))
        raise InputError(
            f"{row.place}: field {name!r} has no message with the role assistant, which the loss counts; "
            f"its roles are: {roles}"
        )
    return Conversation(messages) if any(message["content"].strip() for message in assistant) else None


def _message(row: Row, value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _wrong_type(row, value, name, "an object with role and content")
    for key in ("role", "content"):
        if key not in value:
            raise InputError(
                f"{row.place}: {name} has no {key!r}; its keys are: {', '.join(map(str, value)) or 'none'}; "
                "rename them to role and content"
            )
    if value.get("tool_calls"):
        raise InputError(
            f"{row.place}: {name} has tool_calls, which are not supported: only role and content are trained "
            "on; write them into the content or leave the row out"
        )
    return {
        "role": _string(row, value["role"], f"{name}.role"),
        "content": _string(row, value["content"], f"{name}.content"),
    }


def _field(row: Row, name: str, setting: str) -> Any:
    if name not in row.data:
        raise InputError(
            f"{row.place} has no field {name!r}; its fields are: {', '.join(row.data) or 'none'}; "
            f"set corpus.{setting} to one of them"
        )
    return row.data[name]


def _string(row: Row, value: Any, name: str) -> str:
    if not isinstance(value, str):
        _wrong_type(row, value, name, "a string")
    return value


def _wrong_type(row: Row, value: Any, name: str, expected: str) -> NoReturn:
    came = "null" if value is None else f"{type(value).__name__} ({str(value)[:40]})"
    raise InputError(
        f"{row.place}: field {name!r} must be {expected}, but is {came}; convert it, or set corpus.example "
        "and its field names to what the rows hold"
    )
