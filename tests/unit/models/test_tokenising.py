"""Tokens and loss positions are those of TRL's SFTTrainer, for all formats that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from fishersft.data.examples import Conversation, Example, PromptCompletion, TextExample
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised, Tokeniser
from tests.unit.models.reference import byte_tokenizer, loss_text, marked_by_trl, ours, template, trained_on
from tests.unit.models.test_chat_templates import SHAPES, TOOLS, says, system, user

TEXTS = ["hello world", "hello world</s>", "hello</s> world", "a\n\n\nb", "", "</s>", " foo bar "]
PAIRS = [
    ("hello", " world"),
    ("hel", "lo world"),  # tokens merge across the boundary
    ("a\n", "\n\nb"),
    ("Q:", " x</s>"),
    ("", "foo"),
    ("foo", ""),
    ("in</s>", "the sun"),
]


@pytest.fixture
def tokenise() -> Tokeniser:
    return Tokeniser(byte_tokenizer(template("qwen3")), max_tokens=10_000)


def test_texts_are_what_sfttrainer_makes_of_them(tokenise: Tokeniser, tmp_path: Path) -> None:
    wanted = trained_on(tokenise.tokenizer, [{"text": text} for text in TEXTS], tmp_path)
    assert [ours(tokenise, TextExample(text)) for text in TEXTS] == wanted


def test_prompts_with_completions_are_what_sfttrainer_makes_of_them(tokenise: Tokeniser, tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    wanted = trained_on(tokenise.tokenizer, rows, tmp_path)
    assert [ours(tokenise, PromptCompletion(*pair)) for pair in PAIRS] == wanted


CONVERSATIONS = [
    ([user("a")], [says("b")]),
    ([user("a"), says("b"), user("c")], [says("d")]),
    ([system("be"), user("a")], [says("<think>\nhm\n</think>\n\nb")]),
    ([user("a")], [says("b"), user("c"), says("d")]),
    ([user("a")], [says("\n\nBecause it is. ")]),
]


@pytest.mark.parametrize("name", ["qwen3", "llama3", "qwen2_5", "gemma3", "deepseek_r1_distill", "llama3_1", "phi3"])
def test_message_lists_with_completions_are_what_sfttrainer_makes_of_them(name: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(template(name))
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in CONVERSATIONS]
    examples = [Conversation((*prompt, *rest), prompt_turns=len(prompt)) for prompt, rest in CONVERSATIONS]
    assert [ours(Tokeniser(tokenizer, 10_000), one) for one in examples] == trained_on(tokenizer, rows, tmp_path)


@pytest.mark.parametrize("thinking", [True, False])
def test_variables_of_the_template_reach_it(tokenise: Tokeniser, thinking: bool, tmp_path: Path) -> None:
    variables = {"enable_thinking": thinking}
    prompt, completion = CONVERSATIONS[0]
    pair = {"prompt": prompt, "completion": completion, "chat_template_kwargs": variables, "tools": TOOLS}
    of_pair = Conversation((*prompt, *completion), TOOLS, variables, prompt_turns=1)
    assert [ours(tokenise, of_pair)] == trained_on(tokenise.tokenizer, [pair], tmp_path)
    whole = {"messages": SHAPES["reasoning"], "chat_template_kwargs": variables}
    of_whole = Conversation(tuple(SHAPES["reasoning"]), None, variables)
    assert [ours(tokenise, of_whole)] == trained_on(tokenise.tokenizer, [whole], tmp_path)


def tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("written", ["", "<s>"])
@pytest.mark.parametrize("ended", ["", "</s>"])
def test_one_beginning_and_one_end_whoever_writes_them(begin: bool, end: bool, written: str, ended: str) -> None:
    tokenizer = byte_tokenizer(begin=begin, end=end)
    tokenise = Tokeniser(tokenizer, 100)
    first = "<s>" if begin or written else ""
    whole = tokens(tokenizer, f"{first}hello world</s>")
    ids, mask = ours(tokenise, TextExample(f"{written}hello world{ended}"))
    assert ids == whole and mask == [False] + [True] * (len(whole) - 1)
    ids, mask = ours(tokenise, PromptCompletion(f"{written}hello", f" world{ended}"))
    before = len(tokens(tokenizer, f"{first}hello"))
    assert ids == whole and mask == [False] * before + [True] * (len(whole) - before)


@pytest.mark.parametrize("begin", [True, False])
def test_one_beginning_and_end_are_sfttrainers_where_it_doubles_none(begin: bool, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(begin=begin)
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    assert [ours(Tokeniser(tokenizer, 100), PromptCompletion(*pair)) for pair in PAIRS] == trained_on(
        tokenizer, rows, tmp_path
    )


def test_a_beginning_that_llama_writes_itself_is_not_doubled() -> None:
    tokenizer = byte_tokenizer(template("llama3"))
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    begin = tokenizer.convert_tokens_to_ids("<|begin_of_text|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    tokenise = Tokeniser(tokenizer, 100)
    for example in (
        TextExample("<|begin_of_text|>hello"),
        TextExample("hello"),
        PromptCompletion("<|begin_of_text|>hello", " world"),
        Conversation((user("a"), says("b"))),
    ):
        ids, mask = ours(tokenise, example)
        assert ids[0] == begin and ids.count(begin) == 1 and not mask[0]


def test_a_prompt_to_continue_has_no_end() -> None:
    tokenizer = byte_tokenizer(begin=True, end=True)
    tokenise = Tokeniser(tokenizer, 100)
    prompt = tokenise.prompt_ids(PromptCompletion("<s>hello", " world"), 3, most=50)
    assert prompt == tokens(tokenizer, "<s>hello")
    text = "hello world foo bar"
    assert tokenise.prompt_ids(TextExample(text), 3, most=50) == tokens(tokenizer, f"<s>{text}")[:3]
    assert tokenise.prompt_ids(TextExample("x"), 2, most=50) is None
    chat = Tokeniser(byte_tokenizer(template("llama3")), 100)
    messages = [user("a"), says("b"), user("c"), says("d")]
    asked = chat.tokenizer.apply_chat_template(messages[:3], add_generation_prompt=True, return_dict=False)
    assert chat.prompt_ids(Conversation(tuple(messages)), 3, most=500) == asked
    assert chat.prompt_ids(Conversation(tuple(messages)), 3, most=2) == asked[-2:]


def test_a_long_example_is_cut_and_says_so(tokenise: Tokeniser) -> None:
    text = "hello world foo bar"
    whole = tokens(tokenise.tokenizer, f"{text}</s>")
    for most in range(1, len(whole) + 2):
        sentence = Tokeniser(tokenise.tokenizer, most)(TextExample(text))
        cut = whole[:most]
        assert sentence == Tokenised(cut, [False, *[True] * (len(cut) - 1)], truncated=most < len(whole))
    assert Tokeniser(tokenise.tokenizer, 2)(PromptCompletion(text, " x")).loss_tokens == 0


def test_labels_and_predicting_positions_follow_from_the_mask() -> None:
    sentence = Tokenised([7, 8, 9], [False, True, True], truncated=False)
    assert (sentence.labels, sentence.predicting_positions, sentence.loss_tokens) == ([-100, 8, 9], [0, 1], 2)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("qwen3", "b<|im_end|>\n", "d<|im_end|>\n"),
        ("phi3", "b<|end|>\n", "d<|end|>\n</s>"),  # the end of text goes with the last turn
        ("diffusion_gemma", "b<turn|>\n", "d<turn|>\n"),  # two marks a message
        ("llama3_1", "b<|eot_id|>", "d<|eot_id|>"),  # no marks
        ("gptoss", "b<|end|>", "d<|return|>"),
    ],
)
def test_a_turn_of_weight_zero_is_not_counted_and_all_else_stays(name: str, first: str, second: str) -> None:
    tokenise = Tokeniser(byte_tokenizer(template(name)), 10_000)
    messages = tuple(SHAPES["several turns"])
    ids, mask = ours(tokenise, Conversation(messages))
    masks = []
    for uncounted, left, gone in (((3,), first, second), ((1,), second, first)):
        example = Conversation(messages, uncounted=uncounted)
        assert ours(tokenise, example)[0] == ids
        assert left in loss_text(tokenise, example) and gone not in loss_text(tokenise, example)
        masks.append(ours(tokenise, example)[1])
    assert [one or two for one, two in zip(*masks, strict=True)] == mask
    assert not any(one and two for one, two in zip(*masks, strict=True))
    assert not any(ours(tokenise, Conversation(messages, uncounted=(1, 3)))[1])


@pytest.mark.parametrize("name", ["qwen3", "llama3_1"])
def test_a_turn_of_weight_zero_after_a_prompt_is_not_counted(name: str) -> None:
    tokenise = Tokeniser(byte_tokenizer(template(name)), 10_000)
    messages = tuple(SHAPES["several turns"])
    ids, mask = ours(tokenise, Conversation(messages, prompt_turns=1))
    without, left = ours(tokenise, Conversation(messages, prompt_turns=1, uncounted=(3,)))
    gone = tokenise.tokenizer.decode([i for i, a, b in zip(ids, mask, left, strict=True) if a and not b])
    assert ids == without and gone.replace("<think>\n\n</think>\n\n", "") in ("d<|im_end|>\n", "d<|eot_id|>")
    assert not any(b and not a for a, b in zip(mask, left, strict=True))


def test_many_are_what_one_at_a_time_are_with_an_error_in_the_place_of_a_bad_one() -> None:
    tokenise = Tokeniser(byte_tokenizer(template("gemma3")), 20)
    bad = Conversation((user("a"), user("b"), says("c")))
    good: list[Example] = [
        TextExample("hello"),
        Conversation(tuple(SHAPES["several turns"])),
        PromptCompletion("hel", "lo"),
        Conversation(tuple(SHAPES["single turn"]), prompt_turns=1),
        TextExample(""),
    ]
    *alike, error = tokenise.many([*good, bad])
    assert alike == [tokenise(example) for example in good]
    assert isinstance(error, InputError) and "begins user: 'a'" in str(error)
    first, *others = tokenise.many([bad, *good])
    assert isinstance(first, InputError) and others == alike
    assert tokenise.many([]) == []


def test_a_conversation_without_a_chat_template_says_what_to_do() -> None:
    tokenise = Tokeniser(byte_tokenizer(), 64)
    with pytest.raises(InputError, match=r"no chat template; set corpus\.chat_template"):
        tokenise(Conversation((says("hey"),)))
    assert tokenise(TextExample("hey")).loss_mask[1:] and not tokenise.prints_date


AWKWARD = [
    "<|im_end|>",
    "</think>",
    "<think>",
    "\n",
    " ",
    "\t",
    "\x00",
    "\x1f",
    "é",
    "e\u0301",
    "😀",
    "<|eot_id|>",
    "</s>",
]
WORDS = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=6), max_size=5).map("".join)
TURNS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3).map(
    lambda pairs: [message for asked, answered in pairs for message in (user(asked), says(answered))]
)
TOKENIZERS = {name: byte_tokenizer(template(name)) for name in ("qwen3", "llama3", "qwen2_5")}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_whatever_is_said_is_counted_as_trl_counts_it(name: str) -> None:
    @settings(max_examples=60)
    @given(TURNS)
    def alike(messages: list[dict[str, Any]]) -> None:
        tokenizer = TOKENIZERS[name]
        assert ours(Tokeniser(tokenizer, 10_000), Conversation(tuple(messages))) == marked_by_trl(tokenizer, messages)

    alike()
