"""Fine-tuning: equal tokens take equal steps, the model learns, and how a step is computed does not change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from fishersft.config import FinetuneConfig
from fishersft.data.examples import Conversation, Example, PromptCompletion, TextExample
from fishersft.errors import InputError
from fishersft.models.evaluating import sentence_nll
from fishersft.models.finetuning import TrainingRecord, finetune
from fishersft.models.tokenising import Tokenised, Tokeniser
from tests.conftest import VERSES

UNLIKE_VERSES = ["zzz 99 QQ", "x=y; y=z", "{[()]}"]
Weights = dict[str, torch.Tensor]
Train = Callable[..., tuple[TrainingRecord, Weights]]


@pytest.fixture
def sentences(tokenizer: PreTrainedTokenizerFast) -> list[Tokenised]:
    return [Tokeniser(tokenizer, 32)(TextExample(text)) for text in VERSES]


@pytest.fixture
def train(
    tmp_path: Path, tiny_model_folder: Path, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> Train:
    """Trains the tiny model anew with the settings that are given, and gives the record and the weights it saved."""

    def run(seed: int = 0, held_out: list[Tokenised] | None = None, **settings: Any) -> tuple[TrainingRecord, Weights]:
        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        config = FinetuneConfig(**{"epochs": 2, "batch_tokens": 20, "learning_rate": 1e-3, **settings})
        folder = tmp_path / "trained"
        record = finetune(model, tokenizer, sentences, config, folder, seed=seed, held_out=held_out or [])
        return record, AutoModelForCausalLM.from_pretrained(folder).state_dict()

    return run


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_takes_as_many_steps_as_it_is_told(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    config = FinetuneConfig(epochs=2, batch_tokens=10_000)
    assert finetune(tiny_llama, tokenizer, sentences, config, tmp_path, steps_per_epoch=3).steps == 6


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
    seen: list[tuple[Any, ...]] = []
    record = finetune(tiny_llama, tokenizer, sentences, config, tmp_path, on_progress=lambda *now: seen.append(now))
    trained = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert sentence_nll(trained, sentences, 512).sum() < 0.95 * before
    assert AutoTokenizer.from_pretrained(tmp_path)("May")["input_ids"] == tokenizer("May")["input_ids"]
    assert record.tokens_per_epoch == sum(sentence.loss_tokens for sentence in sentences)
    assert record.steps == 8 * round(record.tokens_per_epoch / 40) == len(record.losses) == record.steps_kept
    assert seen[-1] == (record.steps, record.steps)
    assert seen[0] == (1, record.steps, f"loss {record.losses[0][1]:.3f} nats a token")
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "example",
    [
        TextExample("Rough winds do shake the darling buds of May"),
        PromptCompletion("Rough winds", " do shake the buds"),
        Conversation(
            (
                {"role": "user", "content": "Rough winds?"},
                {"role": "assistant", "content": "do shake"},
                {"role": "user", "content": "and?"},
            )
        ),
    ],
    ids=["all of a text", "a completion only", "the assistant only"],
)
@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_the_mean_over_the_tokens_that_count(
    example: Example, packing: bool, tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    sentence = Tokeniser(tokenizer, 32)(example)
    short = Tokeniser(tokenizer, 32)(TextExample("1 2"))
    with torch.no_grad():
        logits = [tiny_llama(torch.tensor([s.input_ids])).logits[0].log_softmax(-1) for s in (sentence, short)]
    chosen = [
        scores[place - 1, s.input_ids[place]].item()
        for scores, s in zip(logits, (sentence, short), strict=True)
        for place, counted in enumerate(s.loss_mask)
        if counted
    ]
    config = FinetuneConfig(epochs=1, batch_tokens=10_000, packing=packing)
    record = finetune(tiny_llama, tokenizer, [sentence, short], config, tmp_path)
    assert record.tokens_per_epoch == len(chosen)
    assert record.losses == [(1, pytest.approx(-sum(chosen) / len(chosen), rel=1e-5))]


@pytest.mark.parametrize(
    "way",
    [
        {"packing": True},
        {"passes_a_step": 3},
        {"packing": True, "passes_a_step": 2},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "method": "lora"},
    ],
    ids=str,
)
def test_how_a_step_is_computed_changes_rounding_only(way: dict[str, Any], train: Train) -> None:
    plain, weights = train(method=way.get("method", "full"))
    record, computed_so = train(**way)
    assert [step for step, _ in record.losses] == [step for step, _ in plain.losses]
    assert [loss for _, loss in record.losses] == pytest.approx([loss for _, loss in plain.losses], rel=1e-5)
    for name, before in weights.items():
        torch.testing.assert_close(computed_so[name], before, rtol=0, atol=2e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_seed_alone_says_what_weights_come_out(method: str, train: Train) -> None:
    weights = {seed: train(seed, method=method)[1] for seed in (7, 8)}
    assert equal(weights[7], train(7, method=method)[1])
    assert not equal(weights[7], weights[8])


def test_half_precision_trains_in_float32_weights(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    config = FinetuneConfig(epochs=8, learning_rate=1e-2, batch_tokens=40, early_stopping=1)
    held_out = sentences[:3]
    record = finetune(tiny_llama, tokenizer, sentences, config, tmp_path, mixed_precision=True, held_out=held_out)
    assert record.losses[-1][1] < record.losses[0][1]
    trained = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert trained.dtype == torch.float32
    tokens = sum(sentence.loss_tokens for sentence in held_out)
    assert min(loss for _, loss in record.held_out_losses) == pytest.approx(
        sentence_nll(trained, held_out).sum() / tokens, rel=1e-2
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_training_that_no_longer_improves_stops_early_and_keeps_its_best_weights(
    method: str, train: Train, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    held_out = [Tokeniser(tokenizer, 32)(TextExample(text)) for text in UNLIKE_VERSES]
    record, _ = train(epochs=9, learning_rate=3e-2, batch_tokens=40, early_stopping=2, held_out=held_out, method=method)
    steps, losses = zip(*record.held_out_losses, strict=True)
    best = losses.index(min(losses))
    assert list(steps) == [record.steps_per_epoch * epoch for epoch in range(1, len(steps) + 1)]
    assert len(steps) == best + 3 < 9 and record.steps == steps[-1] and record.steps_kept == steps[best]
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "trained").eval()
    tokens = sum(sentence.loss_tokens for sentence in held_out)
    assert sentence_nll(kept, held_out).sum() / tokens == pytest.approx(losses[best], rel=1e-5)


def test_a_training_that_improves_to_the_end_keeps_its_last_weights(train: Train, sentences: list[Tokenised]) -> None:
    stopping, weights = train(early_stopping=1, held_out=sentences)
    assert stopping.steps_kept == stopping.steps and stopping.held_out_losses[0][1] > stopping.held_out_losses[1][1]
    assert equal(weights, train()[1])


def test_sentences_without_loss_positions_are_an_error(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(InputError, match="no sentence to train on"):
        finetune(tiny_llama, tokenizer, [Tokenised([5], [False], False)], FinetuneConfig(), tmp_path)


def test_early_stopping_without_held_out_sentences_is_an_error(train: Train) -> None:
    with pytest.raises(InputError, match=r"early_stopping needs a held-out example .* raise corpus\.held_out_fraction"):
        train(early_stopping=1)


def test_a_loss_that_is_no_number_ends_the_training(
    tmp_path: Path, tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[Tokenised]
) -> None:
    tiny_llama.base_model.norm.weight.data[3] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinite; lower finetune\.learning_rate"):
        finetune(tiny_llama, tokenizer, sentences, FinetuneConfig(), tmp_path)
