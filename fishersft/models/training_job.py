"""A fine-tuning run as data, so that it is computed here or by several processes, each on a device of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter

from fishersft.config import FinetuneConfig
from fishersft.errors import InputError
from fishersft.models.finetuning import TrainingRecord, finetune
from fishersft.models.loading import load_model, load_tokenizer
from fishersft.models.tokenising import Tokenised

JOB_FILE, PROGRESS_FILE, RECORD_FILE, ERROR_FILE = "job.json", "progress.json", "record.json", "error.txt"
_POLL_SECONDS = 0.5
_SHOWN_LOG = 2000  # characters


@dataclass(frozen=True)
class TrainingJob:
    """Everything that `finetune` needs but the device, all of it fit for JSON.

    Attributes:
        model: the base model's folder, tokenizer included.
        trust_remote_code: run code that it carries; only when the user asked for it.
        chat_template: that its tokenizer gets in the place of its own, see `load_tokenizer`.
        sentences: the training set, in the tokens of this model.
        held_out: what early stopping looks at.
        config, folder, checkpoints, steps_per_epoch, mixed_precision, seed: as `finetune` has them.
    """

    model: Path
    trust_remote_code: bool
    chat_template: str | None
    sentences: list[Tokenised]
    held_out: list[Tokenised]
    config: FinetuneConfig
    folder: Path
    checkpoints: Path
    steps_per_epoch: int | None
    mixed_precision: bool
    seed: int

    def run(self, device: torch.device | None, on_progress: Callable[..., None] | None) -> TrainingRecord:
        """Trains in this process, on that device; None: on a model that is laid over several."""
        return finetune(
            load_model(self.model, "float32", device, self.trust_remote_code),
            load_tokenizer(self.model, self.trust_remote_code, self.chat_template),
            self.sentences,
            self.config,
            self.folder,
            steps_per_epoch=self.steps_per_epoch,
            mixed_precision=self.mixed_precision,
            seed=self.seed,
            held_out=self.held_out,
            checkpoints=self.checkpoints,
            on_progress=on_progress,
        )


def run_in_processes(
    job: TrainingJob, devices: Sequence[str], on_progress: Callable[..., None] | None = None
) -> TrainingRecord:
    """Trains in a process for each device, which share every step; accelerate and torch.distributed join them.

    The steps, their sentences and their losses are those of one process. The processes end when this one does.

    Args:
        devices: such as "cuda:0", "cuda:1", or "cpu" as often as there shall be processes.
        on_progress: called now and then with (optimiser steps done, steps in all, a note of the loss).

    Raises:
        InputError: as `finetune` does.
        RuntimeError: a process failed otherwise; with the end of what it wrote.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / JOB_FILE).write_bytes(TypeAdapter(TrainingJob).dump_json(job))
        processes = _start(place, devices)
        try:
            shown, statuses = b"", [process.poll() for process in processes]
            while None in statuses and not any(statuses):
                time.sleep(_POLL_SECONDS)
                statuses = [process.poll() for process in processes]
                now = _content(place / PROGRESS_FILE)
                if on_progress is not None and now != shown:
                    on_progress(*TypeAdapter(tuple[int, int, str]).validate_json(now))
                    shown = now
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(statuses):
            raise _failure(place, statuses)
        return TypeAdapter(TrainingRecord).validate_json((place / RECORD_FILE).read_bytes())


def _start(place: Path, devices: Sequence[str]) -> list[subprocess.Popen]:
    processes = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank, device in enumerate(devices):
        number = torch.device(device).index
        joined = {
            "RANK": rank,
            "LOCAL_RANK": rank if number is None else number,
            "WORLD_SIZE": len(devices),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, "-m", "fishersft.models.training_process", str(place), device]
        with (place / f"{rank}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closed when this process ends, however it does
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **{name: str(value) for name, value in joined.items()}},
            )
        processes.append(process)
    return processes


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _failure(place: Path, statuses: Sequence[int | None]) -> Exception:
    """Why the first process that failed did."""
    error = _content(place / ERROR_FILE).decode()
    if error:
        return InputError(error)
    rank, status = next((rank, status) for rank, status in enumerate(statuses) if status)
    log = _content(place / f"{rank}.log").decode(errors="replace")
    return RuntimeError(f"training process {rank} of {len(statuses)} ended with status {status}:\n{log[-_SHOWN_LOG:]}")
