"""Supervised fine-tuning of a causal LM with TRL's SFTTrainer, in batches of equal numbers of loss tokens."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import SFTConfig

from fishersft.config import FinetuneConfig
from fishersft.errors import InputError
from fishersft.models.packing import check_packing
from fishersft.models.token_batches import TokenBatches
from fishersft.models.token_trainer import CheckpointNowAndThen, TokenBatchTrainer, Watch
from fishersft.models.tokenising import Tokenised

_STATE_FILE = "trainer_state.json"  # the Trainer writes it last: with it a checkpoint is whole


@dataclass(frozen=True)
class TrainingRecord:
    """What a training run did.

    Attributes:
        sentences: how many it trained on.
        tokens_per_epoch: their loss tokens.
        steps_per_epoch: optimiser steps in one pass over them.
        steps: optimiser steps taken.
        steps_kept: after how many of them the weights are that were kept: all, without early stopping.
        losses: (step, loss in nats per token) of the training sentences.
        held_out_losses: the same of the held-out sentences after each epoch, with early stopping.
    """

    sentences: int
    tokens_per_epoch: int
    steps_per_epoch: int
    steps: int
    steps_kept: int
    losses: list[tuple[int, float]]
    held_out_losses: list[tuple[int, float]]


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
    held_out: Sequence[Tokenised] = (),
    checkpoints: Path | None = None,
    on_progress: Callable[..., None] | None = None,
) -> TrainingRecord:
    """Fine-tunes a model and writes it, LoRA adapters merged, as a folder that `from_pretrained` loads.

    In one of several processes, as `run_in_processes` starts them, it shares every step with the others, and the first
    writes.

    Args:
        model: float32 weights, on the device to train on; changed in place.
        tokenizer: saved beside the weights.
        sentences: the training set; the loss counts their loss positions.
        config: method, epochs, learning rate, tokens a step, and how a step is computed; its model is not looked at.
        folder: where model and tokenizer go.
        steps_per_epoch: optimiser steps an epoch, so that two trainings on as many tokens take as many; None: as
            many as the tokens fill at `config.batch_tokens` each. At most one a sentence.
        mixed_precision: compute in bfloat16, keep the weights in float32.
        seed: of the order of the sentences and of LoRA's initial weights.
        held_out: for early stopping: the sentences whose loss says when to stop.
        checkpoints: a folder for what an interrupted training goes on from, found there and gone at the end; None:
            it begins anew.
        on_progress: called with (optimiser steps done, steps in all), and a note of the loss.

    Raises:
        InputError: no sentence has a loss position, none is held out for early stopping, the loss became NaN or
            infinite, or `check_packing` finds that packed sentences see each other.
    """
    trainable, measured = _with_loss_tokens(sentences, held_out, config)
    if config.packing:
        check_packing(model, trainable)
    lengths = [sentence.loss_tokens for sentence in trainable]
    batches = TokenBatches(lengths, steps_per_epoch or round(sum(lengths) / config.batch_tokens), seed)
    with _scratch(checkpoints) as scratch:
        before = _last_checkpoint(scratch)
        epochs = config.epochs if before is None else _epochs_to_train(before, config)
        trainer = TokenBatchTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=_dataset(trainable),
            eval_dataset=_dataset(measured) if measured else None,
            args=_arguments(config, epochs, model.device, mixed_precision, seed, scratch),
            peft_config=LoraConfig(r=config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
            if config.method == "lora"
            else None,
            batches=batches,
            passes=config.passes_a_step,
            held_out=measured,
            callbacks=_callbacks(config, on_progress),
        )
        trainer.remove_callback(PrinterCallback)  # progress is ours to show
        trainer.train(resume_from_checkpoint=None if before is None else str(before))
        if trainer.is_world_process_zero():
            _save(trainer.model, tokenizer, folder)
        trainer.accelerator.wait_for_everyone()  # who is done first must not remove what others still read
    state = trainer.state
    if on_progress is not None:
        on_progress(state.global_step, state.global_step)
    return TrainingRecord(
        sentences=len(trainable),
        tokens_per_epoch=sum(lengths),
        steps_per_epoch=len(batches),
        steps=state.global_step,
        steps_kept=state.best_global_step or state.global_step,  # no best without early stopping
        losses=_logged(state.log_history, "loss"),
        held_out_losses=_logged(state.log_history, "eval_loss"),
    )


def _with_loss_tokens(
    sentences: Sequence[Tokenised], held_out: Sequence[Tokenised], config: FinetuneConfig
) -> tuple[list[Tokenised], list[Tokenised]]:
    trainable, measured = ([sentence for sentence in some if sentence.loss_tokens] for some in (sentences, held_out))
    if not trainable:
        raise InputError(
            "no sentence to train on has a token that the loss counts; check corpus.example and the fields"
        )
    if config.early_stopping is not None and not measured:
        raise InputError(
            "finetune.early_stopping needs a held-out example with a token that the loss counts, and there is none; "
            "raise corpus.held_out_fraction, or leave it out"
        )
    return trainable, measured


def _dataset(sentences: Sequence[Tokenised]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"input_ids": [s.input_ids for s in sentences], "labels": [s.labels for s in sentences]}
    )


def _callbacks(config: FinetuneConfig, on_progress: Callable[..., None] | None) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [Watch(on_progress), CheckpointNowAndThen()]
    if config.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping))
    return callbacks


def _arguments(
    config: FinetuneConfig, epochs: int, device: torch.device, mixed_precision: bool, seed: int, scratch: Path
) -> SFTConfig:
    each_epoch = "no" if config.early_stopping is None else "epoch"
    arguments = SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show a loss that is no number as 0
        eval_strategy=each_epoch,
        save_strategy=each_epoch,
        save_total_limit=1 if config.early_stopping is None else 2,  # the last, and the best
        load_best_model_at_end=config.early_stopping is not None,
        metric_for_best_model="eval_loss" if config.early_stopping is not None else None,
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        seed=seed,
        bf16=mixed_precision,
        use_cpu=device.type == "cpu",
        activation_checkpointing=config.gradient_checkpointing,
        padding_free=config.packing,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process trains on one GPU, however many it sees
    return arguments


@contextmanager
def _scratch(checkpoints: Path | None) -> Iterator[Path]:
    """A folder for checkpoints; one that is given is removed only when the work is done."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        yield checkpoints
        shutil.rmtree(checkpoints, ignore_errors=True)


def _last_checkpoint(scratch: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [folder for folder in scratch.glob("checkpoint-*") if _state(folder) is not None]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def _state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        return json.loads((checkpoint / _STATE_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _epochs_to_train(checkpoint: Path, config: FinetuneConfig) -> int:
    """All of them, or as many as it had when the checkpoint's training was stopped early."""
    state = _state(checkpoint)
    assert state is not None, "only whole checkpoints are gone on from"
    if config.early_stopping is None:
        return config.epochs
    waited = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"]
    return round(state["epoch"]) if waited >= config.early_stopping else config.epochs


def _save(trained: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    if hasattr(trained, "merge_and_unload"):
        trained = trained.merge_and_unload()
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _logged(history: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), float(entry[name])) for entry in history if name in entry]
