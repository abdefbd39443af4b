"""All of TRL's chat templates over many shapes of conversation: tokens and loss positions are those of TRL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import PreTrainedTokenizerFast

from fishersft.data.examples import Conversation
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokeniser
from tests.unit.models.reference import (
    TEXT_TEMPLATES,
    VISION_ONLY,
    byte_tokenizer,
    freeze,
    marked_by_trl,
    ours,
    template,
    trained_on,
)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "its name"}},
                "required": ["city"],
            },
        },
    }
]
CALLS = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}]


def system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def says(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


RESULT = {"role": "tool", "name": "weather", "content": "18", "tool_call_id": "x"}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "single turn": [user("a"), says("b")],
    "several turns": [user("a"), says("b"), user("c"), says("d")],
    "system prompt": [system("be"), user("a"), says("b")],
    "thought": [user("a"), says("<think>\nhm\n</think>\n\nb")],
    "two thoughts": [user("a"), says("<think>\nhm\n</think>\n\nb"), user("c"), says("<think>\nho\n</think>\n\nd")],
    "reasoning": [user("a"), says("b", reasoning_content="hm long")],
    "two reasonings": [user("a"), says("b", reasoning_content="hm"), user("c"), says("d", reasoning_content="ho")],
    "newlines": [user("a"), says("\n\nBecause it is.\n")],
    "spaces": [user("a"), says(" b ")],
    "two users": [user("a"), user("b"), says("c")],
    "empty turn": [user("a"), says(""), user("c"), says("d")],
    "ends with user": [user("a"), says("b"), user("c")],
    "assistant first": [says("a"), user("b"), says("c")],
    "tool call": [user("a"), says("", tool_calls=CALLS), RESULT, says("It is 18.")],
    "null content": [user("a"), says(None, tool_calls=CALLS), RESULT, says("It is 18.")],
}
WITH_TOOLS = ("tool call", "null content")
NO_VARIANT = ("gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5", "llama3_1", "llama3_2")
MARKS = {"agrees": "=", "both refuse": "refuse", "ours": "ours", "DIFFERS": "DIFFERS"}


def conversation(shape: str) -> Conversation:
    return Conversation(tuple(SHAPES[shape]), TOOLS if shape in WITH_TOOLS else None)


def compared(tokenizer: PreTrainedTokenizerFast, name: str, shape: str) -> str:
    """How a cell of the table comes out."""
    example = conversation(shape)
    if name in NO_VARIANT:
        with pytest.raises(ValueError, match="not training-compatible"):
            marked_by_trl(tokenizer, example.messages, example.tools)
        return "ours" if sum(ours(Tokeniser(tokenizer, 10_000), example)[1]) else "DIFFERS"
    try:
        wanted = marked_by_trl(tokenizer, example.messages, example.tools)
    except (jinja2.TemplateError, TypeError):
        with pytest.raises(InputError):
            Tokeniser(tokenizer, 10_000)(example)
        return "both refuse"
    return "agrees" if ours(Tokeniser(tokenizer, 10_000), example) == wanted else "DIFFERS"


def test_the_table_of_all_templates_and_shapes_agrees_with_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(monkeypatch, 2024, 7, 26)
    table = {}
    for name in TEXT_TEMPLATES:
        tokenizer = byte_tokenizer(template(name))
        table[name] = {shape: compared(tokenizer, name, shape) for shape in SHAPES}
    print("\n" + " " * 24 + " ".join(f"{shape:>15}" for shape in SHAPES))
    for name, cells in table.items():
        print(f"{name:24}" + " ".join(f"{MARKS[cell]:>15}" for cell in cells.values()))
    counts = Counter(cell for cells in table.values() for cell in cells.values())
    print(dict(counts))
    assert set(NO_VARIANT) < set(table) and counts["agrees"] > 400
    assert [(name, shape) for name, cells in table.items() for shape in cells if cells[shape] == "DIFFERS"] == []


@pytest.mark.parametrize("name", VISION_ONLY)
def test_a_template_for_images_only_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"corpus\.chat_template"):
        Tokeniser(byte_tokenizer(template(name)), 100)(conversation("single turn"))


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gptoss", "gemma3", "phi3", "deepseek_r1_distill", "qwen2_5"])
def test_a_real_trainer_prepares_the_same(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    freeze(monkeypatch, 2024, 7, 26)
    tokenizer = byte_tokenizer(template(name))
    plain = [shape for shape in SHAPES if shape not in WITH_TOOLS]
    shapes = [shape for shape in plain if name != "gemma3" or shape not in ("two users", "assistant first")]
    wanted = trained_on(tokenizer, [{"messages": SHAPES[shape]} for shape in shapes], tmp_path)
    tokenise = Tokeniser(tokenizer, 10_000)
    assert {shape: ours(tokenise, conversation(shape)) for shape in shapes} == dict(zip(shapes, wanted, strict=True))


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "qwen2_5", "llama3"])
def test_a_real_trainer_prepares_tools_the_same(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    freeze(monkeypatch, 2024, 7, 26)
    tokenizer = byte_tokenizer(template(name))
    rows = [{"messages": SHAPES[shape], "tools": TOOLS} for shape in WITH_TOOLS]
    tokenise = Tokeniser(tokenizer, 10_000)
    assert [ours(tokenise, conversation(shape)) for shape in WITH_TOOLS] == trained_on(tokenizer, rows, tmp_path)
