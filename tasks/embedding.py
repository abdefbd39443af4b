"""Embedding a corpus within a flow: here, by tasks that run at the same time, or by the workers of a deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect import Task
from prefect.task_runners import ThreadPoolTaskRunner

from fishersft.config import CurateConfig
from fishersft.steps.embedding import THREADS_A_DEVICE
from fishersft.steps.missing_shards import MadeOfShards
from fishersft.steps.models import devices_of
from fishersft.steps.outcome import Outcome
from tasks import curation, fan_out
from tasks.sub_runs import Workers


def task_runner() -> Any:
    """Threads for the tasks of a flow: on every device one computes while others read or upload."""
    return ThreadPoolTaskRunner(max_workers=THREADS_A_DEVICE * len(devices_of(None)))


def find_workers(config: CurateConfig) -> Workers | None:
    """The workers that embed for a run, None where it embeds by itself."""
    return None if config.embedding.deployment is None else fan_out.find_workers(config.embedding.deployment)


def embed_corpus(config: CurateConfig, workers: Workers | None, corpus: Outcome) -> list[Outcome]:
    """The embeddings of a corpus's shards, in their order."""
    return _embed(curation.embed_shard, config, workers, corpus, "the corpus")


def embed_target(config: CurateConfig, workers: Workers | None, target: Outcome) -> list[Outcome]:
    """The embeddings of a target's shards, in their order; the config has the target in the place of its corpus."""
    return _embed(curation.embed_target_shard, config, workers, target, "the target")


def sketch_corpus(config: CurateConfig, workers: Workers | None, corpus: Outcome) -> list[Outcome]:
    """The gradient sketches of all layers, of a corpus's shards, in their order."""
    return _embed(curation.sketch_shard, config, workers, corpus, "the corpus", "gradients")


def sketch_target(config: CurateConfig, workers: Workers | None, target: Outcome) -> list[Outcome]:
    """Those of a target's shards, in their order; the config has the target in the place of its corpus."""
    return _embed(curation.sketch_target_shard, config, workers, target, "the target", "gradients")


def _embed(
    embed: Task[..., Outcome],
    config: CurateConfig,
    workers: Workers | None,
    corpus: Outcome,
    what: str,
    kind: MadeOfShards = "embeddings",
) -> list[Outcome]:
    shards = corpus.facts["shard_keys"]
    made = set(fan_out.embed_on_workers(config, workers, shards, what, kind)) if workers else set()
    submitted = [embed.submit(config, shard, number, len(shards)) for number, shard in enumerate(shards, start=1)]
    outcomes = [future.result() for future in submitted]
    # what this run's workers made, its own tasks only find
    return [replace(outcome, hit=outcome.hit and outcome.key not in made) for outcome in outcomes]
