"""Embed shards: what a worker of the GPU pool does for a curation run that runs elsewhere."""

from __future__ import annotations

from prefect.futures import wait

from fishersft.config import CurateConfig
from fishersft.steps.missing_shards import MadeOfShards
from tasks import curation as tasks
from tasks import embedding
from tasks.checked import flow
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors

shorten_input_errors()


@flow(name="embed-shards", task_runner=embedding.task_runner())
def embed_shards(config: CurateConfig, shards: list[str], kind: MadeOfShards = "embeddings") -> None:
    """Embeds shards of a corpus that a run has read, on all GPUs of this machine; those the store has are left.

    With `kind` gradients it makes the gradient sketches of all layers instead. The corpus itself is not read, so it may
    be out of this machine's reach; store and model may not.
    """
    with guarded_run():
        make = tasks.embed_shard if kind == "embeddings" else tasks.sketch_shard
        embedded = [make.submit(config, shard, n, len(shards)) for n, shard in enumerate(shards, start=1)]
        wait(embedded)  # for all, so that a shard that fails costs no other
        for outcome in embedded:
            outcome.result()
