"""Rows of named kinds become examples, and a row that is none says which field is wrong and what to change."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fishersft.config import CorpusConfig
from fishersft.data.examples import Conversation, Example, PromptCompletion, TextExample, as_text
from fishersft.data.formats import example_of
from fishersft.data.readers import Row
from fishersft.errors import InputError

USER = {"role": "user", "content": "Who's there?"}
ASSISTANT = {"role": "assistant", "content": "Nay, answer me."}


def example(kind: str, data: dict[str, Any], **fields: Any) -> Example | None:
    return example_of(Row(data, "a.jsonl", 7), CorpusConfig(path="a.jsonl", example=kind, **fields))


def test_a_text_is_kept_as_it_is() -> None:
    assert example("text", {"text": "  To be\n"}) == TextExample("  To be\n")
    assert example("text", {"speech": "To be", "text": 3}, text_field="speech") == TextExample("To be")


def test_a_prompt_and_its_completion_are_kept_as_they_are() -> None:
    expected = PromptCompletion("Who's there?", " Nay")
    assert example("prompt-completion", {"prompt": "Who's there?", "completion": " Nay"}) == expected
    renamed = example("prompt-completion", {"q": "Who's there?", "a": " Nay"}, prompt_field="q", completion_field="a")
    assert renamed == expected
    assert example("prompt-completion", {"prompt": "", "completion": "Nay"}) == PromptCompletion("", "Nay")


def test_a_conversation_keeps_roles_and_contents() -> None:
    expected = Conversation(
        (
            {"role": "user", "content": "Who's there?", "name": "Bernardo"},
            {"role": "assistant", "content": "Nay, answer me."},
            {"role": "tool", "content": ""},
        )
    )
    messages = [USER | {"name": "Bernardo", "tool_calls": None}, ASSISTANT, {"role": "tool", "content": ""}]
    assert example("messages", {"messages": messages}) == expected
    assert example("messages", {"chat": messages}, messages_field="chat") == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("text", {"text": ""}),
        ("text", {"text": " \t\n\u2003"}),
        ("text", {"text": None}),
        ("prompt-completion", {"prompt": "Who's there?", "completion": "\n"}),
        ("prompt-completion", {"prompt": "Who's there?", "completion": None}),
        ("prompt-completion", {"prompt": [USER], "completion": []}),
        ("messages", {"messages": []}),
        ("messages", {"messages": None}),
        ("messages", {"messages": ""}),
        ("messages", {"messages": [USER, ASSISTANT | {"weight": 0}]}),
        ("auto", {"text": "", "prompt": None, "messages": None}),
        ("auto", {"messages": []}),
    ],
)
def test_no_text_where_the_loss_is_counted_is_blank(kind: str, data: dict[str, Any]) -> None:
    assert example(kind, data) is None


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (
            "text",
            {"speech": "x", "act": 1},
            "a.jsonl:7 has no field 'text'; its fields are: speech, act; set corpus.text_field",
        ),
        ("text", {}, "its fields are: none"),
        ("text", {"text": 3}, r"a.jsonl:7: field 'text' must be a string, but is int \(3\)"),
        ("text", {"text": ["x"]}, "must be a string, but is list"),
        ("prompt-completion", {"completion": "x"}, "no field 'prompt'.*corpus.prompt_field"),
        ("prompt-completion", {"prompt": "x"}, "no field 'completion'.*corpus.completion_field"),
        ("prompt-completion", {"prompt": None, "completion": "x"}, "'prompt' must be a string or a list of mess.*null"),
        ("prompt-completion", {"prompt": "x", "completion": 3}, "'completion' must be a string or a list of messages"),
        ("messages", {"chats": []}, "no field 'messages'.*corpus.messages_field"),
        ("messages", {"messages": "x"}, "'messages' must be a list.* its text 'x' is no JSON"),
        ("messages", {"messages": "3"}, r"'messages' must be a list.*but is int \(3\)"),
        ("messages", {"messages": "[" * 100_000}, "is no JSON that can be read: it is nested too deeply"),
        ("messages", {"messages": '["\\ud800"]'}, "half of a surrogate pair"),
        ("messages", {"messages": ["x"]}, r"'messages\[0\]' must be an object with role and content"),
        (
            "messages",
            {"messages": [USER, {"from": "gpt", "value": "x"}]},
            r"messages\[1\] has no 'role'; its keys are: from, value; rename them to role and content",
        ),
        ("messages", {"messages": [{"role": "assistant"}]}, r"messages\[0\] has no 'content'"),
        ("messages", {"messages": [{"role": 1, "content": "x"}]}, r"'messages\[0\].role' must be a string"),
        (
            "messages",
            {"messages": [USER, USER | {"role": "system"}]},
            "no message with the role assistant.*its roles are: system, user",
        ),
    ],
)
def test_what_is_no_example_says_where_and_why(kind: str, data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        example(kind, data)


def test_the_digest_is_the_hash_of_canonical_json() -> None:
    text = TextExample("Où?")
    assert text.canonical() == '{"text":"Où?"}'
    assert text.digest == hashlib.sha256('{"text":"Où?"}'.encode()).hexdigest()
    assert PromptCompletion("a", "b").canonical() == '{"completion":"b","prompt":"a"}'
    chat = Conversation(({"role": "assistant", "content": "x"},))
    assert chat.canonical() == '{"messages":[{"content":"x","role":"assistant"}]}'


def test_other_fields_do_not_change_the_digest() -> None:
    one, two = example("text", {"text": "x", "id": 1}), example("text", {"id": 2, "text": "x"})
    assert one is not None
    assert two is not None
    assert one.digest == two.digest
    assert one.digest != TextExample("x ").digest


def test_as_text_shows_reasoning_and_tool_calls_and_no_missing_content() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Genève"}}}
    chat = Conversation(
        (
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "reasoning_content": "I look.", "tool_calls": [call]},
            {"role": "tool", "content": "yes"},
            {"role": "assistant", "content": "It rains."},
        )
    )
    assert as_text(chat) == (
        'user: Rain?\nassistant: <think>I look.</think>\nweather({"city": "Genève"})\ntool: yes\nassistant: It rains.'
    )
    assert as_text(PromptCompletion("a", "b")) == "a\n→ b"
