"""Prompts without answers are what a model sees when it is to answer, and all their positions count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fishersft.data.examples import Prompt
from fishersft.models.embedding import embed
from fishersft.models.tokenising import Tokenised, Tokeniser
from tests.conftest import VERSES
from tests.unit.models.reference import byte_tokenizer, template
from tests.unit.models.test_chat_templates import TOOLS, says, system, user

ASKED = [
    [user("a")],
    [system("be"), user("a\n")],
    [user("a"), says("b"), user("c")],
]


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gemma3", "phi3"])
@pytest.mark.parametrize("messages", ASKED)
def test_messages_are_what_transformers_gives_a_model_that_is_to_answer(
    name: str, messages: list[dict[str, Any]]
) -> None:
    tokenizer = byte_tokenizer(template(name))
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    found = Tokeniser(tokenizer, 10_000)(Prompt(tuple(messages)))
    assert found.input_ids == wanted
    assert found.predicting_positions == list(range(len(wanted)))


def test_tools_and_variables_of_the_template_reach_it() -> None:
    tokenizer = byte_tokenizer(template("qwen3"))
    wanted = tokenizer.apply_chat_template(
        [user("a")], TOOLS, add_generation_prompt=True, return_dict=False, enable_thinking=False
    )
    prompt = Prompt((user("a"),), TOOLS, {"enable_thinking": False})
    assert Tokeniser(tokenizer, 10_000)(prompt).input_ids == wanted


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("written", ["", "<s>"])
def test_a_text_begins_once_and_goes_on(begin: bool, end: bool, written: str) -> None:
    tokenizer = byte_tokenizer(begin=begin, end=end)
    first = "<s>" if begin or written else ""
    wanted = tokenizer(f"{first}hello world", add_special_tokens=False)["input_ids"]
    found = Tokeniser(tokenizer, 100)(Prompt(f"{written}hello world"))
    assert (found.input_ids, found.loss_tokens, found.truncated) == (wanted, len(wanted), False)


def test_a_long_prompt_keeps_its_end_where_the_answer_begins() -> None:
    tokenizer = byte_tokenizer()
    wanted = tokenizer("Sing, goddess, the anger", add_special_tokens=False)["input_ids"][-5:]
    found = Tokeniser(tokenizer, 5)(Prompt("Sing, goddess, the anger"))
    assert (found.input_ids, found.loss_tokens, found.truncated) == (wanted, 5, True)


def prompts(tokenizer: PreTrainedTokenizerFast) -> list[Tokenised]:
    tokenise = Tokeniser(tokenizer, 24)
    return [tokenise(Prompt(verse)) for verse in VERSES]


def test_a_block_holds_the_state_of_every_position(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    (found,) = embed(tiny_llama, prompts(tokenizer))
    for block, verse in zip(found.blocks, VERSES, strict=True):
        ids = tokenizer(verse, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            wanted = tiny_llama.model(input_ids=ids).last_hidden_state[0]
        assert len(block) == ids.shape[1]
        torch.testing.assert_close(block, wanted, rtol=1e-4, atol=1e-5)


def test_fisher_weights_need_no_answer_and_no_likelihood_is_told_of_it(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    (found,) = embed(tiny_llama, prompts(tokenizer), with_scores=True)
    assert found.scores is not None
    ends = found.blocks.offsets[1:] - 1
    assert found.scores.nll.isnan().nonzero().flatten().tolist() == ends.tolist()
    for number, verse in enumerate(VERSES):
        ids = tokenizer(verse, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = tiny_llama(input_ids=ids).logits[0].double()
        here = slice(int(found.blocks.offsets[number]), int(ends[number]) + 1)
        weights = 1 - logits.softmax(-1).square().sum(-1)
        torch.testing.assert_close(found.scores.fisher_weights[here].double(), weights, rtol=1e-4, atol=1e-5)
        nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        torch.testing.assert_close(found.scores.nll[here][:-1].double(), nll, rtol=1e-4, atol=1e-5)
