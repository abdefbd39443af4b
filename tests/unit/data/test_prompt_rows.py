"""Rows that hold prompts without answers, and rows whose answer is left out."""

from __future__ import annotations

from typing import Any

import pytest

from fishersft.config import CorpusConfig
from fishersft.data.examples import Example, Prompt, TextExample, as_text
from fishersft.data.formats import example_of, format_in_words
from fishersft.data.formats.detection import is_unanswered
from fishersft.data.readers import Row
from fishersft.errors import InputError

USER = {"role": "user", "content": "Who's there?"}
ASSISTANT = {"role": "assistant", "content": "Nay, answer me."}
MORE = {"role": "user", "content": "Long live the king!"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def row(data: dict[str, Any]) -> Row:
    return Row(data, "a.jsonl", 7)


def config(**settings: Any) -> CorpusConfig:
    return CorpusConfig(path="a.jsonl", **settings)


def read(data: dict[str, Any], **settings: Any) -> Example | None:
    return example_of(row(data), config(example="prompt", **settings))


@pytest.mark.parametrize(
    ("data", "prompt", "words"),
    [
        ({"prompt": "Q: 1 + 1?"}, Prompt("Q: 1 + 1?"), "prompts (prompt)"),
        ({"prompt": [USER]}, Prompt((USER,)), "prompts (prompt)"),
        ({"prompt": [USER], "tools": TOOLS}, Prompt((USER,), TOOLS), "prompts (prompt)"),
        ({"messages": [USER]}, Prompt((USER,)), "prompts (messages)"),
        ({"messages": [USER, ASSISTANT, MORE]}, Prompt((USER, ASSISTANT, MORE)), "prompts (messages)"),
        ({"conversations": [{"from": "human", "value": "Who's there?"}]}, Prompt((USER,)), "prompts (conversations)"),
        ({"prompt": "a", "completion": "b"}, Prompt("a"), "prompts (prompt), answers left out"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, Prompt("a"), "prompts (prompt), answers left out"),
        ({"messages": [USER, ASSISTANT]}, Prompt((USER,)), "prompts (messages), answers left out"),
        (
            {"messages": [USER, ASSISTANT, MORE, ASSISTANT]},
            Prompt((USER, ASSISTANT, MORE)),
            "prompts (messages), answers left out",
        ),
    ],
)
def test_a_prompt_is_all_before_the_answer(data: dict[str, Any], prompt: Prompt, words: str) -> None:
    assert read(data) == prompt
    assert format_in_words(row(data), config(example="prompt")) == words


def test_other_fields_may_hold_the_prompt() -> None:
    assert read({"instruction": "Sum up", "input": "a text", "output": ""}) == Prompt("Sum up\n\na text")
    assert read({"question": "Who?"}, prompt_field="question") == Prompt("Who?")
    assert read({"chat": [USER]}, messages_field="chat") == Prompt((USER,))
    assert read({"instruction": "Add.", "input": "1 and 2"}, prompt_field="instruction") == Prompt("Add.\n\n1 and 2")


@pytest.mark.parametrize("data", [{"prompt": " "}, {"prompt": None}, {"messages": [], "prompt": None}])
def test_a_blank_prompt_is_no_example(data: dict[str, Any]) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": "a"}, "a.jsonl:7 has no field 'prompt'; its fields are: text; set corpus.prompt_field"),
        ({"prompt": 3}, "field 'prompt' must be a string or a list of messages, but is int"),
        ({"messages": [ASSISTANT]}, "field 'messages' has no turn of a user that the assistant is to answer"),
        ({"prompt": "a", "image": "cat.png"}, "has something in its column 'image'"),
    ],
)
def test_what_is_no_prompt_is_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read(data)


@pytest.mark.parametrize(
    ("data", "unanswered"),
    [
        ({"prompt": "a", "id": 3}, True),
        ({"prompt": [USER]}, True),
        ({"messages": [USER]}, True),
        ({"conversations": [{"from": "human", "value": "a"}]}, True),
        ({"prompt": "a", "completion": None}, True),
        ({"prompt": "a", "completion": "b"}, False),
        ({"instruction": "a", "input": "c", "output": ""}, True),
        ({"instruction": "a", "output": "b"}, False),
        ({"prompt": "a", "text": "b"}, False),
        ({"prompt": "a", "response": "b"}, False),
        ({"prompt": "a", "answer": "b"}, False),
        ({"prompt": "a", "completions": ["b", "c"]}, False),
        ({"prompt": [USER, ASSISTANT]}, False),
        ({"prompt": " "}, False),
        ({"messages": [USER, ASSISTANT, MORE]}, False),
        ({"messages": [ASSISTANT]}, False),
    ],
)
def test_only_rows_without_any_answer_are_taken_for_prompts(data: dict[str, Any], unanswered: bool) -> None:
    assert is_unanswered(row(data), config()) is unanswered


@pytest.mark.parametrize("data", [{"prompt": "a"}, {"messages": [USER]}])
def test_where_something_is_to_be_trained_a_prompt_alone_is_an_error_that_says_what_to_do(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="to choose which prompts to have answered, run `fishersft select"):
        example_of(row(data), config())


def test_prompts_are_told_apart_by_their_content() -> None:
    assert Prompt("a").digest == Prompt("a").digest != TextExample("a").digest
    assert Prompt((USER,)).digest != Prompt((USER,), TOOLS).digest
    assert (as_text(Prompt("a")), as_text(Prompt((USER,)))) == ("a", "user: Who's there?")
