"""Fine-tuning: equal tokens take equal steps, the model learns, and what is written loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from fishersft.config import FinetuneConfig
from fishersft.data.examples import TextExample
from fishersft.errors import InputError
from fishersft.models.evaluating import sentence_nll
from fishersft.models.finetuning import TokenBatches, finetune
from fishersft.models.tokenising import SentenceTokeniser, Tokenised
from tests.conftest import VERSES


@pytest.fixture
def sentences(tokenizer: PreTrainedTokenizerFast) -> list[Tokenised]:
    return [SentenceTokeniser(tokenizer, 32)(TextExample(text)) for text in VERSES]


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60), count=st.integers(0, 80), seed=st.integers(0, 9))
def test_batches_hold_every_sentence_once_in_the_promised_number(lengths: list[int], count: int, seed: int) -> None:
    batches = TokenBatches(lengths, count, seed)
    drawn = list(batches)
    assert len(drawn) == len(batches) == max(1, min(len(lengths), count))
    assert all(drawn) and sorted(i for piece in drawn for i in piece) == list(range(len(lengths)))


def test_batches_hold_like_numbers_of_tokens() -> None:
    lengths = [60] * 10 + [10] * 60
    sizes = [sum(lengths[i] for i in batch) for batch in TokenBatches(lengths, 5, seed=0)]
    assert sum(sizes) == 1200 and all(abs(size - 240) <= 60 for size in sizes)


def test_a_training_takes_as_many_steps_as_it_is_told(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    config = FinetuneConfig(epochs=2, batch_tokens=10_000)
    assert finetune(tiny_llama, tokenizer, sentences, config, tmp_path, steps_per_epoch=3).steps == 6


def test_each_epoch_has_its_own_order_and_a_seed_fixes_all() -> None:
    batches, again = TokenBatches([5] * 20, 4, 3), TokenBatches([5] * 20, 4, 3)
    first, second = list(batches), list(batches)
    assert first != second
    assert [first, second] == [list(again), list(again)]


@pytest.mark.parametrize(("method", "learning_rate"), [("full", 1e-2), ("lora", 3e-2)])
def test_a_model_learns_and_what_is_written_loads(
    method: str,
    learning_rate: float,
    tmp_path: Path,
    tiny_llama: Any,
    tokenizer: PreTrainedTokenizerFast,
    sentences: list[Tokenised],
) -> None:
    before = sentence_nll(tiny_llama, sentences, 512).sum()
    config = FinetuneConfig(method=method, epochs=8, learning_rate=learning_rate, batch_tokens=40)  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    record = finetune(tiny_llama, tokenizer, sentences, config, tmp_path, on_progress=lambda *now: seen.append(now))
    trained = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert sentence_nll(trained, sentences, 512).sum() < 0.95 * before
    assert AutoTokenizer.from_pretrained(tmp_path)("May")["input_ids"] == tokenizer("May")["input_ids"]
    assert record.tokens_per_epoch == sum(sentence.loss_tokens for sentence in sentences)
    assert record.steps == 8 * round(record.tokens_per_epoch / 40) == len(record.losses)
    assert seen[-1] == (record.steps, record.steps)


def test_the_loss_is_the_mean_over_loss_tokens(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    expected = sentence_nll(tiny_llama, sentences, 512).sum() / sum(s.loss_tokens for s in sentences)
    record = finetune(tiny_llama, tokenizer, sentences, FinetuneConfig(epochs=1, batch_tokens=10_000), tmp_path)
    assert record.losses == [(1, pytest.approx(expected, rel=1e-4))]


def test_the_same_seed_gives_the_same_weights(
    tmp_path: Path, tiny_model_folder: Path, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    states = []
    for run in ("a", "b"):
        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        finetune(model, tokenizer, sentences, FinetuneConfig(epochs=2, batch_tokens=40), tmp_path / run, seed=7)
        states.append(AutoModelForCausalLM.from_pretrained(tmp_path / run).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_sentences_without_loss_positions_are_an_error(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(InputError, match="no sentence to train on"):
        finetune(tiny_llama, tokenizer, [Tokenised([5], [False], False)], FinetuneConfig(), tmp_path)
