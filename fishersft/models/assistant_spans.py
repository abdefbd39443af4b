"""What the assistant says in a rendered conversation, where the chat template does not mark it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fishersft.errors import InputError

Message = dict[str, Any]
Span = tuple[int, int]

_THOUGHT = "<think>"
REASONING = ("reasoning_content", "reasoning", "thinking")


class Render(Protocol):
    """Renders messages as text; with `generation_prompt` ending in what makes the assistant speak."""

    def __call__(self, messages: Sequence[Message], generation_prompt: bool = False) -> str: ...


def assistant_spans(render: Render, messages: Sequence[Message], text: str, end_token: str) -> list[Span]:
    """The spans of `text` that each of the assistant's messages wrote, found by comparing it with other renderings.

    A span begins where the generation prompt ends, or with the thought that it begins, and reaches to where the next
    message begins, end-of-turn token included.

    Args:
        render: a chat template; raises InputError where it refuses.
        messages: a conversation.
        text: what `render` makes of it.
        end_token: which a template may write after the last message, whoever said it.

    Raises:
        InputError: the comparison does not tell where a message ends.

    Cost: a rendering for the last message, two for each other one; up to seven where the template renders the beginning
        of a conversation differently from the whole.
    """
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return [_span(render, messages, turn, text, end_token) for turn in turns]


def _span(render: Render, messages: Sequence[Message], turn: int, text: str, end_token: str) -> Span:
    try:
        begun = _begun(render, messages, turn)
        through = text if turn == len(messages) - 1 else render(messages[: turn + 1])
    except InputError:  # a template may refuse the beginning of a conversation that it takes as a whole
        begun, through = None, ""
    if begun is not None and text.startswith(through) and through.startswith(begun):
        return len(begun), len(through)
    before, after = _around(render, messages, turn)
    begin = _begin(render, messages, turn, text, begun, _shared(text, before))
    if turn == len(messages) - 1:
        return begin, len(text)
    content_end = len(text) - _shared(text[::-1], after[::-1])
    return begin, max(begin, content_end) + len(_closing(render, messages, turn, after, end_token))


def _begun(render: Render, messages: Sequence[Message], turn: int) -> str | None:
    """The messages before one, and what makes the assistant speak, but for the beginning of a thought."""
    if not turn:
        return None
    prompted = render(messages[:turn], generation_prompt=True)
    thought = prompted.rfind(_THOUGHT)
    return prompted if thought < 0 or thought < len(render(messages[:turn])) else prompted[:thought]


def _around(render: Render, messages: Sequence[Message], turn: int) -> tuple[str, str]:
    """What is written before the content of a message and after it: what two renderings with other contents share."""
    plain = {key: value for key, value in messages[turn].items() if key not in REASONING}
    one, two = (
        render([*messages[:turn], {**plain, "content": words}, *messages[turn + 1 :]]) for words in ("one", "two")
    )
    return one[: _shared(one, two)], one[len(one) - _shared(one[::-1], two[::-1]) :]


def _begin(render: Render, messages: Sequence[Message], turn: int, text: str, begun: str | None, content: int) -> int:
    """Where the message begins: after the header that makes the assistant speak; without one, at its content."""
    if begun is None:
        return content
    header = begun[_shared(begun, render(messages[:turn])) :]
    found = text.rfind(header, 0, content + len(header))
    return found + len(header) if header and 0 <= found <= content else content


def _closing(render: Render, messages: Sequence[Message], turn: int, after: str, end_token: str) -> str:
    """What ends the message: of what follows its content, what also follows it where nothing else does."""
    try:
        _, closing = _around(render, messages[: turn + 1], turn)
    except InputError:
        closing = ""
    if not after.startswith(closing):
        closing = closing.removesuffix(end_token)
    if not closing.strip() or not after.startswith(closing):
        raise InputError(
            f"cannot tell where message {turn + 1} ends: the chat template ends it differently when the conversation "
            "goes on; set corpus.chat_template to a template with {% generation %} marks"
        )
    return closing


def _shared(one: str, two: str) -> int:
    """How many characters two texts begin with in common."""
    different = (place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    return next(different, min(len(one), len(two)))
