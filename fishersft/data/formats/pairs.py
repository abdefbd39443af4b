"""A prompt and its completion, each a string or a list of messages; and preference data, of which chosen is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fishersft.config import CorpusConfig
from fishersft.data.examples import Conversation, PromptCompletion, TextExample
from fishersft.data.formats.alpaca import with_context
from fishersft.data.formats.messages import Turns, conversation_of, refuse_media, said, turns_of
from fishersft.data.formats.values import field, string, wrong_type
from fishersft.data.readers import Row


def prompt_completion(row: Row, config: CorpusConfig) -> PromptCompletion | Conversation | None:
    """The completion after its prompt; None where it is blank. Where either is a list, both become messages.

    Raises:
        InputError: a field is missing or of the wrong type, or the completion has no message of the assistant.
    """
    prompt = field(row, config.prompt_field, "set corpus.prompt_field to one of them")
    completion = field(row, config.completion_field, "set corpus.completion_field to one of them")
    if config.prompt_field == "instruction" and isinstance(prompt, str) and isinstance(row.data.get("input"), str):
        prompt = with_context(row, prompt, ("input",))
    return _pair(row, (prompt, config.prompt_field), (completion, config.completion_field), config.ignore_message_keys)


def preferred(row: Row, config: CorpusConfig) -> TextExample | PromptCompletion | Conversation | None:
    """The chosen answer after its prompt; None where it is blank.

    Without a prompt of its own, the prompt is what chosen and rejected begin with alike, as TRL's `extract_prompt`
    has it.

    Raises:
        InputError: a field is missing or of the wrong type, or chosen has no message of the assistant.
    """
    chosen = field(row, "chosen")
    prompt, rejected = row.data.get(config.prompt_field), row.data.get("rejected")
    if chosen is None:
        return None
    if isinstance(chosen, str):
        if prompt is not None:
            return _pair(row, (prompt, config.prompt_field), (chosen, "chosen"), config.ignore_message_keys)
        return _preferred_text(row, chosen, rejected)
    return _preferred_messages(row, chosen, config, prompt, rejected)


def _pair(
    row: Row, prompt: tuple[Any, str], completion: tuple[Any, str], ignored: Collection[str]
) -> PromptCompletion | Conversation | None:
    """Of the values and names of two fields."""
    (before, before_name), (after, after_name) = prompt, completion
    if after is None or (isinstance(after, str) and not after.strip()):
        return None
    if isinstance(before, str) and isinstance(after, str):
        refuse_media(row)
        return PromptCompletion(before, after)
    asked = _turns(row, before, before_name, "user", ignored)
    answered = _turns(row, after, after_name, "assistant", ignored)
    if not answered.messages:
        return None
    return conversation_of(row, asked + answered, after_name, len(asked.messages))


def _turns(row: Row, value: Any, name: str, role: str, ignored: Collection[str]) -> Turns:
    if isinstance(value, str):
        return said(role, value)
    if not isinstance(value, list):
        wrong_type(row, value, name, "a string or a list of messages")
    return turns_of(row, value, name, ignored)


def _preferred_text(row: Row, chosen: str, rejected: Any) -> TextExample | PromptCompletion | None:
    refuse_media(row)
    if not chosen.strip():
        return None
    if rejected is None:
        return TextExample(chosen)
    common = _common(chosen, string(row, rejected, "rejected"))
    if common > 0 and chosen[common - 1] == " ":
        common -= 1
    prompt, completion = chosen[:common], chosen[common:]
    return PromptCompletion(prompt, completion) if completion.strip() else None


def _preferred_messages(row: Row, chosen: Any, config: CorpusConfig, prompt: Any, rejected: Any) -> Conversation | None:
    ignored = config.ignore_message_keys
    turns = turns_of(row, chosen, "chosen", ignored)
    if not turns.messages:
        return None
    if prompt is None and rejected is None:
        return conversation_of(row, turns, "chosen")
    if prompt is None:
        common = _common(turns.messages, turns_of(row, rejected, "rejected", ignored).messages)
        return conversation_of(row, turns, "chosen", common or None)
    asked = _turns(row, prompt, config.prompt_field, "user", ignored)
    whole = _with_prompt(turns, asked) if isinstance(prompt, list) else turns if _is_whole(turns.messages) else None
    if whole is not None:
        return conversation_of(row, whole, "chosen", _asked(whole.messages))
    return conversation_of(row, asked + turns, "chosen", len(asked.messages))


def _common(one: Any, other: Any) -> int:
    """How much two strings or lists begin with alike; never all of either."""
    most = min(len(one), len(other)) - 1
    return next((i for i in range(most) if one[i] != other[i]), max(most, 0))


def _with_prompt(chosen: Turns, asked: Turns) -> Turns | None:
    """The chosen conversation if it begins with the prompt's messages, perhaps but for a system message before them."""
    missing = [
        message for message in asked.messages[:1] if message["role"] == "system" and chosen.messages[0] != message
    ]
    rest = asked.messages[len(missing) :]
    if not rest or chosen.messages[: len(rest)] != rest:
        return None
    return Turns(missing, []) + chosen


def _is_whole(messages: list[dict[str, Any]]) -> bool:
    """Whether a chosen conversation has its prompt in it: the user speaks before the assistant does."""
    return next((message["role"] for message in messages if message["role"] in ("user", "assistant")), "") == "user"


def _asked(messages: list[dict[str, Any]]) -> int:
    """How many messages there are up to the last one of the user that the assistant answers."""
    roles = [message["role"] for message in messages]
    answer = max((i for i, role in enumerate(roles) if role == "assistant"), default=len(roles))
    return max((i for i, role in enumerate(roles[:answer]) if role == "user"), default=-1) + 1
