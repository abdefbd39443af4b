"""A row's format is found from its fields, and read as TRL and the format's authors mean it."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishersft.config import CorpusConfig
from fishersft.data.examples import Conversation, Example, PromptCompletion, TextExample
from fishersft.data.formats import example_of, format_in_words
from fishersft.data.readers import Row
from fishersft.data.rows import decode_row, encode_row
from fishersft.errors import InputError

USER = {"role": "user", "content": "Who's there?"}
ASSISTANT = {"role": "assistant", "content": "Nay, answer me."}
CHAT = [USER, ASSISTANT]
SHAREGPT = [{"from": "human", "value": "Who's there?"}, {"from": "gpt", "value": "Nay, answer me."}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def read(data: dict[str, Any], **settings: Any) -> Example | None:
    return example_of(Row(data, "a.jsonl", 7), CorpusConfig(path="a.jsonl", **settings))


def chat(data: dict[str, Any], **settings: Any) -> Conversation:
    found = read(data, **settings)
    assert isinstance(found, Conversation)
    return found


def words(data: dict[str, Any], **settings: Any) -> str:
    return format_in_words(Row(data, "a.jsonl", 7), CorpusConfig(path="a.jsonl", **settings))


FORMATS: list[tuple[dict[str, Any], str, Example]] = [
    ({"messages": CHAT}, "messages (role/content)", Conversation(tuple(CHAT))),
    ({"conversations": CHAT}, "messages (conversations: role/content)", Conversation(tuple(CHAT))),
    ({"conversations": SHAREGPT}, "ShareGPT conversations (conversations: from/value)", Conversation(tuple(CHAT))),
    ({"messages": SHAREGPT}, "ShareGPT conversations (messages: from/value)", Conversation(tuple(CHAT))),
    ({"prompt": "Q:", "completion": " x"}, "prompt and completion", PromptCompletion("Q:", " x")),
    (
        {"prompt": "Q:", "chosen": " x", "rejected": " y"},
        "preference data, by chosen",
        PromptCompletion("Q:", " x"),
    ),
    (
        {"instruction": "Summarise.", "input": "TEXT", "output": "T"},
        "Alpaca (instruction/input/output)",
        Conversation(
            ({"role": "user", "content": "Summarise.\n\nTEXT"}, {"role": "assistant", "content": "T"}), prompt_turns=1
        ),
    ),
    (
        {"instruction": "Summarise.", "context": "", "response": "T", "category": "x"},
        "Alpaca (instruction/context/response)",
        Conversation(
            ({"role": "user", "content": "Summarise."}, {"role": "assistant", "content": "T"}), prompt_turns=1
        ),
    ),
    ({"text": "To be", "id": 3}, "text (text)", TextExample("To be")),
]


def test_an_alpaca_row_without_an_input_is_not_said_to_have_one() -> None:
    assert words({"instruction": "Hey", "output": "T"}) == "Alpaca (instruction/output)"


@pytest.mark.parametrize(("data", "in_words", "expected"), FORMATS)
def test_each_format_is_found_by_its_fields(data: dict[str, Any], in_words: str, expected: Example) -> None:
    assert words(data) == in_words
    assert read(data) == expected


@pytest.mark.parametrize(("data", "in_words", "expected"), FORMATS)
def test_a_stored_row_gives_the_same_example_again(data: dict[str, Any], in_words: str, expected: Example) -> None:
    again = read(decode_row(encode_row(data)))
    assert again is not None and again.digest == expected.digest


@given(st.lists(st.integers(0, len(FORMATS) - 1), min_size=2, max_size=4, unique=True))
def test_of_several_formats_in_one_row_the_first_of_the_list_counts(places: list[int]) -> None:
    order = ["messages", "conversations", "completion", "chosen", "output", "response", "text"]
    row: dict[str, Any] = {}
    for place in places:
        row = {**FORMATS[place][0], **row}
    first = next(name for name in order if name in row)
    assert words(row) in {in_words for data, in_words, _ in FORMATS if first in data}


def test_fields_that_hold_nothing_do_not_decide() -> None:
    assert read(
        {"messages": None, "conversations": [], "completion": None, "prompt": None, "text": "x"}
    ) == TextExample("x")
    assert read({"messages": 12, "text": "x"}) == TextExample("x")
    assert read({"messages": "12 new messages", "text": "x"}) == TextExample("x")


def test_a_field_name_of_ones_own_decides() -> None:
    row = {"messages": CHAT, "speech": "To be", "question": "Q", "answer": "A", "turns": SHAREGPT}
    assert read(row, text_field="speech") == TextExample("To be")
    assert read(row, prompt_field="question", completion_field="answer") == PromptCompletion("Q", "A")
    assert read(row, messages_field="turns") == Conversation(tuple(CHAT))
    assert words(row, text_field="speech") == "text (speech)"
    assert words(row, prompt_field="question", completion_field="answer") == "prompt and completion (question/answer)"
    with pytest.raises(InputError, match=r"a.jsonl:7 has no field 'speach'.*corpus.text_field"):
        read(row, text_field="speach")


def test_a_row_that_fits_no_format_names_its_fields_and_the_formats() -> None:
    with pytest.raises(
        InputError, match=r"a.jsonl:7 fits no format.*its fields are: speech, act; .*conversations.*text"
    ):
        read({"speech": "x", "act": 1})


@pytest.mark.parametrize("kind", ["alpaca", "preference", "sharegpt"])
def test_a_kind_that_is_named_needs_its_fields(kind: str) -> None:
    with pytest.raises(InputError, match=r"a.jsonl:7 has no field"):
        read({"text": "x"}, example=kind)


def test_trl_makes_the_same_messages_of_sharegpt() -> None:
    trl = pytest.importorskip("trl")
    turns = [{"from": "system", "value": "s"}, {"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]
    expected = trl.maybe_convert_to_chatml({"conversations": copy.deepcopy(turns)})["messages"]
    assert list(chat({"conversations": turns}).messages) == expected


@pytest.mark.parametrize(
    ("senders", "role"),
    [
        (["human", "user"], "user"),
        (["gpt", "chatgpt", "assistant", "bing", "bard", "model"], "assistant"),
        (["tool", "observation", "function_response"], "tool"),
    ],
)
def test_sharegpts_senders_become_roles(senders: list[str], role: str) -> None:
    for sender in senders:
        row = {"conversations": [{"from": sender, "value": "x"}, {"from": "gpt", "value": "y"}]}
        assert chat(row).messages[0] == {"role": role, "content": "x"}


def test_sharegpts_function_calls_are_tool_calls() -> None:
    called = {"name": "weather", "arguments": {"city": "Bern"}}
    row = {
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": json.dumps(called)},
            {"from": "observation", "value": "yes"},
            {"from": "gpt", "value": "It rains."},
        ],
        "tools": json.dumps(TOOLS),
    }
    assert chat(row).messages[1] == {"role": "assistant", "tool_calls": [CALL]}
    assert chat(row).tools == TOOLS
    for value in ("weather(Bern)", '{"name": "weather"}', "3"):
        row["conversations"][1]["value"] = value  # type: ignore[index]
        with pytest.raises(
            InputError, match=r"a.jsonl:7: field 'conversations\[1\].value' must be an object with name"
        ):
            read(row)


def test_a_system_column_comes_first_unless_the_turns_have_one() -> None:
    system = {"role": "system", "content": "Be brief."}
    own = {"from": "system", "value": "Be long."}
    assert chat({"conversations": SHAREGPT, "system": "Be brief."}).messages[0] == system
    assert len(chat({"conversations": SHAREGPT, "system": " "}).messages) == 2
    found = chat({"conversations": [own, *SHAREGPT], "system": "Be brief."}).messages
    assert found[0] == {"role": "system", "content": "Be long."} and len(found) == 3
    skipped = [*SHAREGPT, {"from": "gpt", "value": "no", "weight": 0}]
    assert chat({"conversations": skipped, "system": "s"}).uncounted == (3,)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"from": "robot", "value": "x"}, r"conversations\[1\] is from 'robot'; expected one of human, user, gpt"),
        ({"from": "gpt"}, r"conversations\[1\] has no 'value'; its keys are: from"),
        ({"role": "assistant", "content": "x"}, r"conversations\[1\] has no 'from'.*corpus.example: messages"),
        ({"from": "gpt", "value": 3}, r"'conversations\[1\].value' must be a string"),
        ({"from": "gpt", "value": "x", "html": "<b>x</b>"}, r"\[1\] has the key 'html'.*ignore_message_keys"),
        ("x", r"'conversations\[1\]' must be an object"),
    ],
)
def test_a_sharegpt_turn_that_is_none_says_why(turn: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read({"conversations": [SHAREGPT[0], turn]})


def test_messages_may_be_a_json_string() -> None:
    assert read({"messages": json.dumps(CHAT)}) == Conversation(tuple(CHAT))
    assert read({"conversations": json.dumps(SHAREGPT)}) == Conversation(tuple(CHAT))


def test_ids_of_plain_conversations_are_what_they_were() -> None:
    expected = '{"messages":[{"content":"a","role":"user"},{"content":"b","role":"assistant"}]}'
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": None}]}
    assert chat(row).canonical() == expected


def test_content_parts_of_text_are_put_together() -> None:
    parts = [{"type": "text", "text": "Nay, ", "image": None}, "answer ", {"type": "text", "text": "me."}]
    assert chat({"messages": [USER, {"role": "assistant", "content": parts}]}).messages[1] == ASSISTANT


@pytest.mark.parametrize("kind", ["image", "image_url", "video", "audio", "input_text"])
def test_other_parts_are_refused_by_name(kind: str) -> None:
    row = {"messages": [{"role": "user", "content": [{"type": kind, kind: "x"}]}, ASSISTANT]}
    with pytest.raises(InputError, match=rf"a.jsonl:7: messages\[0\].content\[0\] is a part of the type '{kind}'"):
        read(row)


@pytest.mark.parametrize("column", ["image", "images", "video", "videos", "audio"])
@pytest.mark.parametrize("place", range(8))
def test_images_beside_a_conversation_are_refused_by_name(column: str, place: int) -> None:
    data = FORMATS[place][0]
    with pytest.raises(InputError, match=f"a.jsonl:7 has something in its column '{column}'"):
        read(data | {column: ["x.png"]})
    assert read(data | {column: None}) == read(data | {column: []}) == FORMATS[place][2]
    assert read({"text": "x", column: "x.png"}) == TextExample("x")


def test_content_may_be_missing_beside_tool_calls() -> None:
    for content in ({}, {"content": None}):
        called = {"role": "assistant", "tool_calls": [CALL | {"id": "1"}]} | content
        answered = {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "yes"}
        found = chat({"messages": [USER, called, answered, ASSISTANT]})
        assert found.messages[1:3] == ({"role": "assistant", "tool_calls": [CALL | {"id": "1"}]}, answered)
    with pytest.raises(InputError, match=r"content' must be a string, or come with tool_calls, but is null"):
        read({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]})


def test_arguments_of_tool_calls_stay_as_they_are() -> None:
    call = {"function": {"name": "weather", "arguments": '{"city":  "Bern"}'}}
    assert chat({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]}).messages[1]["tool_calls"] == [call]
    call = {"function": {"name": "f", "arguments": {"day": date(2024, 1, 2)}}}
    with pytest.raises(InputError, match=r"tool_calls\[0\].function.arguments.day' must be text, a number"):
        read({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept(key: str) -> None:
    assert chat({"messages": [USER, ASSISTANT | {key: "long thought"}]}).messages[1] == ASSISTANT | {
        key: "long thought"
    }


def test_a_key_that_is_not_understood_is_an_error_until_it_is_listed() -> None:
    row = {"messages": [USER | {"id": 3}, ASSISTANT | {"id": None}]}
    with pytest.raises(InputError, match=r"a.jsonl:7: messages\[0\] has the key 'id'.*corpus.ignore_message_k"):
        read(row)
    assert read(row, ignore_message_keys=["id"]) == Conversation(tuple(CHAT))


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}])
def test_a_turn_of_no_weight_is_not_counted(mark: dict[str, Any]) -> None:
    wrong = {"role": "assistant", "content": "WRONG"}
    found = chat({"messages": [USER, wrong | mark, USER, ASSISTANT | {"weight": 1, "train": True}]})
    assert found == Conversation((USER, wrong, USER, ASSISTANT), uncounted=(1,))
    assert chat({"messages": [USER | mark, ASSISTANT]}) == Conversation(tuple(CHAT))
    answered = {"prompt": CHAT, "completion": [wrong | mark, USER, ASSISTANT]}
    assert (chat(answered).prompt_turns, chat(answered).uncounted) == (2, (2,))


@pytest.mark.parametrize("mark", [{"weight": 0.5}, {"weight": "0"}, {"train": 1}, {"train": "no"}])
def test_other_weights_are_refused(mark: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"'messages\[1\].(weight' must be 0 or 1|train' must be true or false)"):
        read({"messages": [USER, ASSISTANT | mark]})


def test_an_empty_answer_is_an_example_for_its_end_is_trained() -> None:
    empty = {"role": "assistant", "content": ""}
    assert chat({"messages": [USER, empty]}).messages == (USER, empty)
    assert chat({"prompt": [USER], "completion": [empty]}).messages == (USER, empty)


def test_tools_and_variables_of_the_template_come_along() -> None:
    for tools in (TOOLS, json.dumps(TOOLS)):
        assert chat({"messages": CHAT, "tools": tools}).tools == TOOLS
    for nothing in (None, [], "", "[]"):
        assert chat({"messages": CHAT, "tools": nothing}).tools is None
    for kwargs in ({"enable_thinking": False, "x": None}, '{"enable_thinking": false}'):
        assert chat({"messages": CHAT, "chat_template_kwargs": kwargs}).template_kwargs == {"enable_thinking": False}
    for none in (None, {}, "{}", {"x": None}):
        assert chat({"messages": CHAT, "chat_template_kwargs": none}).template_kwargs is None
    with pytest.raises(InputError, match=r"'tools\[0\]' must be an object"):
        read({"messages": CHAT, "tools": ["weather"]})
    with pytest.raises(InputError, match="'chat_template_kwargs' must be an object"):
        read({"messages": CHAT, "chat_template_kwargs": [1]})
    with pytest.raises(InputError, match="chat_template_kwargs has 'messages', which SFTTrainer and FisherSFT set"):
        read({"messages": CHAT, "chat_template_kwargs": {"messages": []}})


def test_alpacas_system_and_history_are_part_of_the_prompt() -> None:
    row = {"instruction": "c", "input": None, "output": "d", "system": "s", "history": [["a", "b"]]}
    roles = ["system", "user", "assistant", "user", "assistant"]
    expected = tuple({"role": role, "content": text} for role, text in zip(roles, "sabcd", strict=True))
    assert read(row) == Conversation(expected, prompt_turns=4)
    with pytest.raises(InputError, match=r"'history\[0\]' must be a pair"):
        read(row | {"history": [["a"]]})
    assert read(row | {"output": " \n"}) is None
    assert read(row | {"output": None}) is None


def test_the_input_is_not_dropped_where_prompt_field_is_instruction() -> None:
    fields = {"example": "prompt-completion", "prompt_field": "instruction", "completion_field": "output"}
    row = {"instruction": "Summarise.", "input": "TEXT", "output": "T"}
    assert read(row, **fields) == PromptCompletion("Summarise.\n\nTEXT", "T")
    for blank in ("", None, 3):
        assert read(row | {"input": blank}, **fields) == PromptCompletion("Summarise.", "T")


def test_prompt_and_completion_may_be_messages_of_one_turn_or_many() -> None:
    expected = Conversation((*CHAT, *CHAT, *CHAT), prompt_turns=3)
    assert read({"prompt": [*CHAT, USER], "completion": [ASSISTANT, *CHAT]}) == expected
    assert read({"prompt": [USER], "completion": "x"}) == Conversation(
        (USER, {"role": "assistant", "content": "x"}), prompt_turns=1
    )
    assert read({"prompt": "Who's there?", "completion": [ASSISTANT]}) == Conversation(tuple(CHAT), prompt_turns=1)
    assert chat({"prompt": [USER], "completion": [ASSISTANT], "tools": TOOLS}).tools == TOOLS
    with pytest.raises(InputError, match=r"'completion' has no message with the role assistant.*its roles are: user"):
        read({"prompt": CHAT, "completion": [USER]})


OTHER = {"role": "assistant", "content": "Long live the king!"}


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (CHAT, [USER, OTHER]),
        ([USER, OTHER, *CHAT], [USER, OTHER, USER, OTHER]),
        (CHAT, CHAT),
        ("The sky is blue.", "The sky is green."),
        ("The sky", "The ski"),
        ("same", "same"),
    ],
)
def test_without_a_prompt_it_is_what_trl_takes_out_of_chosen_and_rejected(chosen: Any, rejected: Any) -> None:
    extract = pytest.importorskip("trl.data_utils").extract_prompt
    expected = extract({"chosen": chosen, "rejected": rejected})
    found = read({"chosen": chosen, "rejected": rejected})
    if isinstance(chosen, str):
        assert found == PromptCompletion(expected["prompt"], expected["chosen"])
    else:
        assert found == Conversation((*expected["prompt"], *expected["chosen"]), prompt_turns=len(expected["prompt"]))


def test_ultrafeedbacks_prompt_is_not_repeated() -> None:
    expected = Conversation(tuple(CHAT), prompt_turns=1)
    assert read({"prompt": "Who's there?", "chosen": CHAT, "rejected": [USER, OTHER]}) == expected
    assert read({"prompt": [USER], "chosen": CHAT}) == expected
    assert read({"prompt": [USER], "chosen": [ASSISTANT]}) == expected
    assert read({"prompt": "Who's there?", "chosen": [ASSISTANT]}) == expected
    assert read({"prompt": "Who's there?", "chosen": "Nay, answer me."}) == PromptCompletion(
        "Who's there?", "Nay, answer me."
    )
    system = {"role": "system", "content": "s"}
    assert read({"prompt": [system, USER], "chosen": CHAT}) == Conversation((system, *CHAT), prompt_turns=2)
    assert read({"prompt": "x", "chosen": [*CHAT, *CHAT]}) == Conversation((*CHAT, *CHAT), prompt_turns=3)


def test_chosen_alone_is_a_conversation_or_a_text() -> None:
    assert read({"chosen": CHAT}) == Conversation(tuple(CHAT))
    assert read({"chosen": "To be"}) == TextExample("To be")
    assert read({"chosen": ""}) is None
    assert read({"chosen": CHAT, "rejected": [OTHER]}) == Conversation(tuple(CHAT))
