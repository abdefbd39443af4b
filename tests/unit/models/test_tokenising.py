"""Tokens and loss positions of texts, prompts with completions, and conversations."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from fishersft.data.examples import Conversation, Message, PromptCompletion, TextExample
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokeniser


@pytest.fixture
def tokenise(tokenizer: PreTrainedTokenizerFast) -> Tokeniser:
    return Tokeniser(tokenizer, max_tokens=64)


def loss_text(tokenise: Tokeniser, example: object) -> str:
    sentence = tokenise(example)  # type: ignore[arg-type]
    counted = [t for t, c in zip(sentence.input_ids, sentence.loss_mask, strict=True) if c]
    return tokenise.tokenizer.decode(counted)


def test_a_text_counts_all_but_its_first_token_and_nothing_is_added(tokenise: Tokeniser) -> None:
    sentence = tokenise(TextExample("Shall I compare thee"))
    assert tokenise.tokenizer.decode(sentence.input_ids) == "Shall I compare thee"
    assert sentence.loss_mask == [False] + [True] * (len(sentence.input_ids) - 1)
    assert sentence.predicting_positions == list(range(len(sentence.input_ids) - 1))
    assert sentence.labels == [-100, *sentence.input_ids[1:]]


def test_a_completion_counts_its_own_tokens_and_the_end(tokenise: Tokeniser) -> None:
    assert loss_text(tokenise, PromptCompletion("Shall I", " compare thee")) == " compare thee<|end|>"


def test_a_token_across_the_boundary_belongs_to_the_completion(tokenise: Tokeniser) -> None:
    # "summer's" without its space is one token with parts on both sides of the boundary.
    text = loss_text(tokenise, PromptCompletion("a summ", "er's day"))
    assert text.endswith("er's day<|end|>") and text != "<|end|>"


def test_a_conversation_counts_the_assistants_turns_only(tokenise: Tokeniser) -> None:
    turns = [("user", "Rough winds?"), ("assistant", "do shake"), ("user", "and?"), ("assistant", "the buds")]
    conversation = Conversation(tuple(Message(role, content) for role, content in turns))
    assert loss_text(tokenise, conversation) == "do shake<|end|>the buds<|end|>"


def test_a_conversation_without_a_chat_template_says_what_to_do(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    with pytest.raises(InputError, match="no chat template; use a chat model"):
        Tokeniser(bare, 64)(Conversation((Message("assistant", "hey"),)))


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    rewriting = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    rewriting.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    messages = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    with pytest.raises(InputError, match="rewrites earlier turns"):
        Tokeniser(rewriting, 64)(Conversation(messages))


def test_a_sentence_over_the_limit_is_cut_and_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenise = Tokeniser(tokenizer, max_tokens=5)
    sentence = tokenise(TextExample("Rough winds do shake the darling buds of May,"))
    assert (len(sentence.input_ids), len(sentence.loss_mask), sentence.truncated) == (5, 5, True)
    assert not tokenise(TextExample("May")).truncated


def test_a_completion_beyond_the_limit_leaves_no_loss_position(tokenizer: PreTrainedTokenizerFast) -> None:
    sentence = Tokeniser(tokenizer, max_tokens=2)(PromptCompletion("Rough winds do shake", " the buds"))
    assert sentence.loss_tokens == 0 and sentence.predicting_positions == []


def test_prompts_are_what_comes_before_the_part_to_be_written(tokenise: Tokeniser) -> None:
    text = "Rough winds do shake the darling buds of May,"
    assert tokenise.prompt_ids(TextExample(text), 3, most=50) == tokenise(TextExample(text)).input_ids[:3]
    assert tokenise.prompt_ids(TextExample("May"), 30, most=50) is None
    prompt = tokenise.prompt_ids(PromptCompletion("Rough winds", " do shake"), 3, most=50)
    assert tokenise.tokenizer.decode(prompt) == "Rough winds"
    conversation = Conversation((Message("user", "Rough?"), Message("assistant", "winds")))
    assert (
        tokenise.tokenizer.decode(tokenise.prompt_ids(conversation, 3, most=50)) == "<|user|>Rough?<|end|><|assistant|>"
    )
    assert len(tokenise.prompt_ids(conversation, 3, most=2) or []) == 2


def test_a_leading_assistant_turn_does_not_count_what_the_template_writes_before_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with_system = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    with_system.chat_template = (
        "{% if messages[0].role != 'system' %}<|system|>Be kind.<|end|>{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    turns = [("assistant", "Shall I?"), ("user", "do"), ("assistant", "May")]
    conversation = Conversation(tuple(Message(role, content) for role, content in turns))
    assert loss_text(Tokeniser(with_system, 64), conversation) == "Shall I?<|end|>May<|end|>"


def test_a_template_that_refuses_a_conversation_names_it(tokenizer: PreTrainedTokenizerFast) -> None:
    strict = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match=r"refuses the conversation that begins user: 'Rough\?'.*roles must alternate"):
        Tokeniser(strict, 64)(Conversation((Message("user", "Rough?"), Message("assistant", "winds"))))
