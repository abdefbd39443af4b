"""The assistant's turns found by comparing renderings, for chat templates that do not mark them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.data.examples import Conversation
from fishersft.errors import InputError
from fishersft.models.chat import ChatTemplate
from fishersft.models.tokenising import Tokeniser
from tests.unit.models.reference import byte_tokenizer, loss_text, marked_by_trl, ours, template
from tests.unit.models.test_chat_templates import SHAPES, TOOLS, WITH_TOOLS, conversation, says, user

# Their training variants mark just what a comparison finds; others mark a thought that the prompt has begun, too.
ALIKE = ["qwen3", "llama3", "gemma3", "phi3", "phi3_5", "lfm2", "cohere", "cohere2", "qwen3_vl", "nemotron_3_nano"]
THOUGHT = "<think>\nhm\n</think>\n\nb"


def said(chat_template: str, messages: list[dict[str, Any]]) -> list[str]:
    """The texts of the spans that a comparison finds."""
    chat = ChatTemplate(byte_tokenizer(chat_template))
    text = chat.render(messages)
    return [text[begin:end] for begin, end in chat.assistant_spans(messages, None, None, text)]


@pytest.mark.parametrize("name", ALIKE)
def test_a_comparison_finds_what_trls_training_variants_mark(name: str) -> None:
    chat = ChatTemplate(byte_tokenizer(template(name)))
    compared = 0
    for shape, messages in SHAPES.items():
        tools = TOOLS if shape in WITH_TOOLS else None
        try:
            text, marks = chat.render_for_training(messages, tools, None)
        except InputError:  # as TRL refuses it
            continue
        if shape == "assistant first" and name in ("qwen3", "nemotron_3_nano"):
            continue  # where no message stands before it, what the template writes for it is not known
        spans = chat.assistant_spans(messages, tools, None, text, training=True)
        assert _positions(spans) == _positions(marks), shape
        compared += 1
    assert compared >= 8


def _positions(spans: list[tuple[int, int]]) -> set[int]:
    return {at for begin, end in spans for at in range(begin, end)}


# Worked out by hand: Llama 3.1 trims content, writes a call as JSON, ends a message with <|eot_id|>; Gemma 4 with
# <turn|> and a newline, or after a call with <|tool_response>, for which it waits.
@pytest.mark.parametrize(
    ("name", "shape", "counted"),
    [
        ("llama3_1", "single turn", "b<|eot_id|>"),
        ("llama3_1", "several turns", "b<|eot_id|>|d<|eot_id|>"),
        ("llama3_1", "two thoughts", f"{THOUGHT}<|eot_id|>|<think>\nho\n</think>\n\nd<|eot_id|>"),
        ("llama3_1", "newlines", "Because it is.<|eot_id|>"),
        ("llama3_1", "two users", "c<|eot_id|>"),
        ("llama3_1", "empty turn", "<|eot_id|>|d<|eot_id|>"),
        ("llama3_1", "ends with user", "b<|eot_id|>"),
        ("llama3_1", "assistant first", "a<|eot_id|>|c<|eot_id|>"),
        (
            "llama3_1",
            "tool call",
            '{"name": "weather", "parameters": {"city": "Paris"}}<|eot_id|>|It is 18.<|eot_id|>',
        ),
        ("llama3_2", "several turns", "b<|eot_id|>|d<|eot_id|>"),
        ("gemma4", "single turn", "b<turn|>\n"),
        ("gemma4", "several turns", "b<turn|>\n|d<turn|>\n"),
        ("gemma4", "system prompt", "b<turn|>\n"),
        ("gemma4", "spaces", "b<turn|>\n"),
        ("gemma4", "empty turn", "<turn|>\n|d<turn|>\n"),
        ("gemma4", "assistant first", "a<turn|>\n|c<turn|>\n"),
        (
            "gemma4",
            "null content",
            '<|tool_call>call:weather{city:<|"|>Paris<|"|>}<tool_call|><|tool_response>|It is 18.<turn|>\n',
        ),
        ("gemma4_v5", "reasoning", "<|channel>thought\nhm long\n<channel|>b<turn|>\n"),
        ("gemma4_v5", "two reasonings", "b<turn|>\n|<|channel>thought\nho\n<channel|>d<turn|>\n"),
    ],
)
def test_where_trl_has_no_variant_text_call_and_end_of_turn_count(name: str, shape: str, counted: str) -> None:
    assert loss_text(Tokeniser(byte_tokenizer(template(name)), 10_000), conversation(shape)) == counted


def test_a_template_that_drops_earlier_thoughts_still_tells_its_turns() -> None:
    dropping = (
        "{% for m in messages %}<{{ m.role }}>"
        "{{ m.content if loop.last else m.content.split('</think>') | last | trim }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    messages = [user("a"), says(THOUGHT), user("c"), says(THOUGHT)]
    assert said(dropping, messages) == ["b<end>\n", f"{THOUGHT}<end>\n"]


def test_the_end_of_text_after_the_last_turn_belongs_to_it_alone() -> None:
    ending = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}"
    )
    messages = [user("a"), says("b"), user("c"), says("d")]
    assert said(ending, messages) == ["b<end>", "d<end></s>"]
    assert said(ending, messages[:3]) == ["b<end>"]


def test_a_thought_that_the_prompt_begins_is_the_assistants() -> None:
    thinking = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
    )
    assert said(thinking, [user("a"), says(THOUGHT)]) == [f"{THOUGHT}<end>"]


def test_a_turn_whose_end_depends_on_what_follows_is_refused_with_that_reason() -> None:
    varying = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ '[last]' if loop.last else '[more]' }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenise = Tokeniser(byte_tokenizer(varying), 100)
    assert loss_text(tokenise, Conversation((user("a"), says("b")))) == "b[last]"
    with pytest.raises(InputError, match=r"cannot tell where message 2 ends: .* differently when the conversation"):
        tokenise(Conversation((user("a"), says("b"), user("c"), says("d"))))


# Llama 3.1's line for a message without calls, and the same with marks as TRL's training variants of others have them.
LINE = (
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' }}"
)
MARKED = (
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}{%- if message['role'] == 'assistant' %}"
    "{% generation %}{{- message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{%- else %}"
    "{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}"
)
WORDS = st.sampled_from(["one", "two", "<|eot_id|>", "assistant", "\n", "<|start_header_id|>assistant", "😀"])
TURN = st.tuples(st.sampled_from(["user", "assistant"]), st.lists(WORDS | st.text(max_size=5), max_size=4).map("".join))


@settings(max_examples=100)
@given(st.lists(TURN, min_size=1, max_size=5))
def test_whatever_is_said_a_comparison_finds_what_marks_would_say(turns: list[tuple[str, str]]) -> None:
    bare = template("llama3_1")
    assert LINE in bare
    messages = [{"role": role, "content": content} for role, content in turns]
    wanted = marked_by_trl(byte_tokenizer(bare.replace(LINE, MARKED)), messages)
    assert ours(Tokeniser(byte_tokenizer(bare), 10_000), Conversation(tuple(messages))) == wanted
