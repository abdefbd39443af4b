"""One of the processes that `run_in_processes` starts: python -m fishersft.models.training_process FOLDER DEVICE."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import torch
from pydantic import TypeAdapter

from fishersft.errors import InputError
from fishersft.models.finetuning import TrainingRecord
from fishersft.models.training_job import ERROR_FILE, JOB_FILE, PROGRESS_FILE, RECORD_FILE, TrainingJob


def main(place: Path, device: torch.device) -> int:
    """Does this process's part of the job in the folder; the first process leaves progress and record there."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    first = os.environ["RANK"] == "0"
    job = TypeAdapter(TrainingJob).validate_json((place / JOB_FILE).read_bytes())

    def report(done: int, total: int, note: str = "") -> None:
        _replace(place / PROGRESS_FILE, json.dumps([done, total, note]).encode())

    try:
        record = job.run(device, report if first else None)
    except InputError as error:
        _replace(place / ERROR_FILE, str(error).encode())
        return 1
    if first:
        _replace(place / RECORD_FILE, TypeAdapter(TrainingRecord).dump_json(record))
    torch.distributed.destroy_process_group()
    return 0


def _end_with_the_parent() -> None:
    """Ends this process when its parent is gone: nobody would take what it trains."""
    os.read(sys.stdin.fileno(), 1)  # nothing ever comes: it ends when the parent does
    os._exit(1)


def _replace(path: Path, content: bytes) -> None:
    """Writes a file that others read meanwhile; processes that write the same one do not meet."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), torch.device(sys.argv[2])))
