"""Supervised fine-tuning of a causal LM with TRL's SFTTrainer, in batches of equal numbers of loss tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from fishersft.config import FinetuneConfig
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised


@dataclass(frozen=True)
class TrainingRecord:
    """What a training run did; `losses` holds (step, loss in nats per token)."""

    sentences: int
    tokens_per_epoch: int
    steps: int
    losses: list[tuple[int, float]]


class TokenBatches:
    """Batches of indices, reshuffled each epoch, that hold nearly equal numbers of loss tokens.

    Args:
        lengths: loss tokens of each sentence.
        count: how many batches; at most one a sentence.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], count: int, seed: int):
        self._lengths = list(lengths)
        self._count = max(1, min(len(lengths), count))
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self._lengths), generator=self._generator).tolist()
        remaining = sum(self._lengths)
        batch: list[int] = []
        filled = 0
        batches_left = self._count
        for place, index in enumerate(order):
            batch.append(index)
            filled += self._lengths[index]
            sentences_left = len(order) - place - 1
            full = filled >= remaining / batches_left or sentences_left < batches_left
            if batches_left > 1 and full:
                yield batch
                remaining -= filled
                batches_left -= 1
                batch, filled = [], 0
        yield batch


class _TokenBatchTrainer(SFTTrainer):
    """SFTTrainer with batches of equal tokens in place of batches of equal sentences."""

    def __init__(self, *args: Any, batches: TokenBatches, **kwargs: Any):
        self._batches = batches
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        data: Any = self.train_dataset
        loader = DataLoader(data, batch_sampler=self._batches, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)


class _ProgressCallback(TrainerCallback):
    def __init__(self, on_progress: Callable[[int, int], None]):
        self._on_progress = on_progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._on_progress(state.global_step, state.max_steps)


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Tokenised],
    config: FinetuneConfig,
    folder: Path,
    *,
    steps_per_epoch: int | None = None,
    mixed_precision: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainingRecord:
    """Fine-tunes a model and writes it, LoRA adapters merged, as a folder that `from_pretrained` loads.

    Args:
        model: float32 weights, on the device to train on; changed in place.
        tokenizer: saved beside the weights.
        sentences: the training set; the loss counts their loss positions.
        config: method, epochs, learning rate, tokens a step.
        folder: where model and tokenizer go.
        steps_per_epoch: optimiser steps an epoch, so that two trainings on as many tokens take as many; None: as
            many as the tokens fill at `config.batch_tokens` each. At most one a sentence.
        mixed_precision: compute in bfloat16, keep the weights in float32.
        seed: of the order of the sentences and of LoRA's initial weights.
        on_progress: called with (optimiser steps done, steps in all).

    Raises:
        InputError: no sentence has a loss position, or the loss became NaN or infinite.
    """
    trainable = [sentence for sentence in sentences if sentence.loss_tokens]
    if not trainable:
        raise InputError(
            "no sentence to train on has a token that the loss counts; check corpus.example and the fields"
        )
    dataset = datasets.Dataset.from_dict(
        {"input_ids": [s.input_ids for s in trainable], "labels": [s.labels for s in trainable]}
    )
    lengths = [sentence.loss_tokens for sentence in trainable]
    steps_per_epoch = steps_per_epoch or round(sum(lengths) / config.batch_tokens)
    trainer = _TokenBatchTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=dataset,
        args=_arguments(config, model.device, mixed_precision, seed, folder),
        peft_config=LoraConfig(r=config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
        if config.method == "lora"
        else None,
        batches=TokenBatches(lengths, steps_per_epoch, seed),
        callbacks=[_ProgressCallback(on_progress)] if on_progress else None,
    )
    trainer.remove_callback(PrinterCallback)  # progress is ours to show
    trainer.train()
    losses = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    if not all(torch.isfinite(torch.tensor(loss)) for _, loss in losses):
        raise InputError("the training loss became NaN or infinite; lower finetune.learning_rate")
    trained: Any = trainer.model
    if config.method == "lora":
        trained = trained.merge_and_unload()
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return TrainingRecord(len(trainable), sum(lengths), trainer.state.global_step, losses)


def _arguments(
    config: FinetuneConfig, device: torch.device, mixed_precision: bool, seed: int, folder: Path
) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        seed=seed,
        bf16=mixed_precision,
        use_cpu=device.type == "cpu",
        activation_checkpointing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
