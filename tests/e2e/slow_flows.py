"""The flows of a worker that takes its time over shards and training steps, so that a test can interfere meanwhile.

The environment says how long a shard takes (SHARD_SECONDS) and a training step (STEP_SECONDS), and how often a run
gives a sign of life (HEARTBEAT_SECONDS, where a test has no patience for Prefect's 30).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from prefect import flow_engine

from fishersft.models import embedding
from fishersft.models.token_trainer import TokenBatchTrainer
from flows.curate import curate
from flows.embed_shards import embed_shards

__all__ = ["curate", "embed_shards"]

_embed = embedding.embed
_training_step = TokenBatchTrainer.training_step


def _embed_slowly(*args: Any, **options: Any) -> Iterator[Any]:
    _wait(float(os.environ.get("SHARD_SECONDS", "0")))
    return _embed(*args, **options)


def _train_slowly(trainer: TokenBatchTrainer, *args: Any, **options: Any) -> Any:
    _wait(float(os.environ.get("STEP_SECONDS", "0")))
    return _training_step(trainer, *args, **options)


def _wait(seconds: float) -> None:
    """Waits as computing does: whoever is to be stopped notices only in between."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)


embedding.embed = _embed_slowly  # type: ignore[assignment]
TokenBatchTrainer.training_step = _train_slowly  # type: ignore[method-assign]
if "HEARTBEAT_SECONDS" in os.environ:
    seconds = int(os.environ["HEARTBEAT_SECONDS"])
    flow_engine.MINIMUM_HEARTBEAT_INTERVAL = seconds
    flow_engine.BaseFlowRunEngine.heartbeat_seconds = property(lambda _engine: seconds)  # type: ignore[assignment]
