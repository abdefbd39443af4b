"""Measuring a model on tasks of lm-evaluation-harness, as an artifact."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config import CurateConfig
from fishersft.data.store import Draft, Store
from fishersft.models.harness import harness_version, run_tasks
from fishersft.steps.models import (
    device_of,
    identity_of,
    loaded_model,
    prepare_model,
    prepare_trained,
    tokeniser_of,
    trained_config,
)
from fishersft.steps.outcome import Outcome, Work

HARNESS_VERSION = 1


def run_harness(store: Store, config: CurateConfig, trained: str | None) -> Outcome:
    """A model's figures on the config's harness tasks: an artifact of kind "harness".

    Its table has task, metric, value and standard error (null where there is none). The key holds the tasks' names and
    the harness's version; what a task's data were on the hub is not in it.

    Args:
        trained: a training's key; None for the model that the config names.

    Raises:
        InputError: the harness is not installed, or the training's weights are gone.
    """
    return harness_work(store, config, trained).done(store)


def harness_work(store: Store, config: CurateConfig, trained: str | None) -> Work:
    """What `run_harness` does."""
    config = trained_config(config)
    base = prepare_model(store, config.model)
    fingerprint, sources = identity_of(base, trained)
    tasks = sorted(set(config.evaluation.harness_tasks))

    def write(draft: Draft) -> None:
        tokeniser = tokeniser_of(base, config)
        model = prepare_trained(store, config.model, trained)
        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        figures = run_tasks(loaded, tokeniser.tokenizer, tasks)
        table = pa.table(
            {
                "task": pa.array([figure.task for figure in figures], pa.string()),
                "metric": pa.array([figure.metric for figure in figures], pa.string()),
                "value": pa.array([figure.value for figure in figures], pa.float64()),
                "stderr": pa.array([figure.stderr for figure in figures], pa.float64()),
            }
        )
        pq.write_table(table, draft.folder / "harness.parquet")

    params = {"tasks": tasks, "harness": harness_version(), "dtype": config.model.dtype}
    inputs = {"model": fingerprint, "tokenizer": base.fingerprint}
    return Work("harness", HARNESS_VERSION, params, inputs, write, (*sources, *base.sources))
