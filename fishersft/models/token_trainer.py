"""TRL's SFTTrainer with steps of equal tokens, held-out losses token by token, and checkpoints by the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from trl import SFTTrainer

from fishersft.errors import InputError
from fishersft.models.evaluating import sentence_nll
from fishersft.models.token_batches import TokenBatches, passes_of_a_step
from fishersft.models.tokenising import Tokenised

CHECKPOINT_SECONDS = 600.0


class TokenBatchTrainer(SFTTrainer):
    """SFTTrainer whose optimiser steps are batches of tokens, which passes and processes share.

    The loss of a step is the mean over its loss tokens, whatever its passes: each pass gives its sum over the number
    of tokens of the whole step.

    Args:
        batches: the sentences of each step, by their place in the training set.
        passes: forward and backward passes a step.
        held_out: sentences to measure after each epoch, where the arguments ask for that.
    """

    def __init__(
        self, *args: Any, batches: TokenBatches, passes: int, held_out: Sequence[Tokenised], **kwargs: Any
    ) -> None:
        self._batches = batches
        self._passes = passes
        self._held_out = held_out
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """A batch is what this process computes of a step: a list of its passes."""
        data: Any = self.train_dataset
        return _EpochLoader(data, batch_sampler=self._batches, collate_fn=self._collate)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """The next step, and its loss tokens in all passes of all processes."""
        passes = next(epoch_iterator)
        return [passes], self._get_num_items_in_batch(passes, device)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Adds up the gradients of a step's passes; processes exchange them in the last."""
        losses = []
        for number, one_pass in enumerate(inputs, start=1):
            with nullcontext() if number == len(inputs) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, one_pass, num_items_in_batch))
        return torch.stack(losses).sum()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The mean loss of a held-out token; each process measures a part of the sentences."""
        model: Any = self.model
        model.eval()
        mine = self._held_out[self.args.process_index :: self.args.world_size]
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        with self.accelerator.autocast():  # in the precision of the training
            nll = float(sentence_nll(plain, mine).sum()) if mine else 0.0
        total = torch.tensor(nll, dtype=torch.float64, device=self.args.device)
        tokens = sum(sentence.loss_tokens for sentence in self._held_out)
        metrics = {"eval_loss": float(self.accelerator.reduce(total, "sum")) / tokens}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _collate(self, examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        shares = passes_of_a_step(examples, self._passes, self.args.process_index, self.args.world_size)
        return [self.data_collator(share) for share in shares]


class Watch(TrainerCallback):
    """Reports every step with its loss, and ends a training whose loss is no number.

    Args:
        on_progress: called with (optimiser steps done, steps in all, a note of the losses).
    """

    def __init__(self, on_progress: Callable[[int, int, str], None] | None):
        self._on_progress = on_progress
        self._held_out = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Called after every step, and after every measurement of the held-out loss."""
        if "eval_loss" in logs:
            self._held_out = f", held out {logs['eval_loss']:.3f}"
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise InputError("the training loss became NaN or infinite; lower finetune.learning_rate")
        if self._on_progress is not None:
            note = f"loss {logs['loss']:.3f}{self._held_out} nats a token"
            self._on_progress(state.global_step, state.max_steps, note)


class CheckpointNowAndThen(TrainerCallback):
    """Asks for a checkpoint at the end of the first step after every ten minutes, in all processes at once.

    After an epoch's last step it waits for the epoch's end: what is gone on from then has its held-out loss.
    """

    def __init__(self) -> None:
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after every optimiser step."""
        if state.epoch % 1:
            self._save_if_due(args, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after every epoch, before the held-out loss is measured."""
        self._save_if_due(args, control)

    def _save_if_due(self, args: Any, control: Any) -> None:
        due = torch.tensor(time.monotonic() - self._saved >= CHECKPOINT_SECONDS, device=args.device)
        if broadcast(due):  # the clock of the first process counts
            control.should_save = True
            self._saved = time.monotonic()


class _EpochLoader(DataLoader):
    """Hands the epoch on to its batches, as the Trainer expects of a loader."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)
