"""Training examples: a text, a prompt and its completion, or a conversation; and prompts that nobody has answered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

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
        prompt_turns: the loss counts everything after so many messages, as TRL does for prompt and completion; None:
            the assistant's turns, as TRL does with `assistant_only_loss`.
        uncounted: the places of messages that the loss leaves out all the same.
    """

    messages: tuple[dict[str, Any], ...]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] | None = None
    prompt_turns: int | None = None
    uncounted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt(_Canonical):
    """What a model is to answer, without an answer: it can be chosen, but nothing is trained on it.

    Attributes:
        prompt: a text, or the messages up to the one that the assistant is to answer.
        tools, template_kwargs: as of `Conversation`.
    """

    prompt: str | tuple[dict[str, Any], ...]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] | None = None


Example = TextExample | PromptCompletion | Conversation | Prompt


def is_chat(example: Example) -> bool:
    """Whether a chat template renders it."""
    return isinstance(example, Conversation) or (isinstance(example, Prompt) and not isinstance(example.prompt, str))


def as_text(example: Example) -> str:
    """An example as one text, for people and for questions about it."""
    if isinstance(example, TextExample):
        return example.text
    if isinstance(example, PromptCompletion):
        return f"{example.prompt}\n→ {example.completion}"
    turns = example.messages if isinstance(example, Conversation) else example.prompt
    return turns if isinstance(turns, str) else "\n".join(f"{turn['role']}: {_as_text(turn)}" for turn in turns)


def words_said(message: dict[str, Any]) -> list[str]:
    """The texts of a message: its reasoning, its content and its tool calls, those that it has."""
    said = [_reasoning(message), message.get("content", ""), *map(_call, message.get("tool_calls", []))]
    return [text for text in said if text]


def _as_text(message: dict[str, Any]) -> str:
    thought = [f"<think>{text}</think>" for text in [_reasoning(message)] if text]
    return "\n".join([*thought, *words_said(message)[len(thought) :]])


def _reasoning(message: dict[str, Any]) -> str:
    """The reasoning under the first of its names, as transformers looks for them."""
    return next((message[name] for name in ("reasoning_content", "thinking", "reasoning") if name in message), "")


def _call(call: dict[str, Any]) -> str:
    """A call as `name(arguments)`."""
    function = call.get("function", call)
    if not isinstance(function, dict):
        return json.dumps(call, ensure_ascii=False)
    arguments = function.get("arguments", "")
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{function.get('name')}({shown})"
