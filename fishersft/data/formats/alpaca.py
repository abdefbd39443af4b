"""Alpaca's rows: an instruction, perhaps an input, and the output; Dolly's have a context and a response."""

from __future__ import annotations

from typing import Any

from fishersft.data.examples import Conversation
from fishersft.data.formats.detection import CONTEXTS, answer_field
from fishersft.data.formats.messages import Turns, conversation_of, said
from fishersft.data.formats.sharegpt import system_turn
from fishersft.data.formats.values import field, from_json, string, wrong_type
from fishersft.data.readers import Row


def alpaca_example(row: Row) -> Conversation | None:
    """The answer after its instruction, as a conversation; None where the answer is blank.

    The messages are the row's `system`, the pairs of its `history`, the instruction with its input, and the answer,
    which alone the loss counts.

    Raises:
        InputError: a field is missing or of the wrong type.
    """
    instruction = field(row, "instruction")
    name = answer_field(row.data)
    answer = field(row, name)
    if answer is None or not string(row, answer, name).strip():
        return None
    prompt = system_turn(row) + _history(row) + said("user", with_context(row, string(row, instruction, "instruction")))
    return conversation_of(row, prompt + said("assistant", answer), name, len(prompt.messages))


def with_context(row: Row, instruction: str, names: tuple[str, ...] = CONTEXTS) -> str:
    """An instruction and, after a blank line, the row's text that it is about, where there is one."""
    for name in names:
        context = row.data.get(name)
        if context is not None and string(row, context, name).strip():
            return f"{instruction}\n\n{context}" if instruction.strip() else context
    return instruction


def _history(row: Row) -> Turns:
    """Earlier turns: [[user, assistant], …]."""
    pairs: Any = from_json(row, row.data.get("history"), "history", "a list of [user, assistant] pairs")
    turns = Turns([], [])
    if pairs is None:
        return turns
    if not isinstance(pairs, list):
        wrong_type(row, pairs, "history", "a list of [user, assistant] pairs")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            wrong_type(row, pair, f"history[{i}]", "a pair [user, assistant]")
        user, assistant = (string(row, text, f"history[{i}]") for text in pair)
        turns = turns + said("user", user) + said("assistant", assistant)
    return turns
