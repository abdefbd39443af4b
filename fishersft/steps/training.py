"""Fine-tuning on a selection: the training's record as an artifact, and its weights, kept or until measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishersft.config import CurateConfig, FinetuneConfig
from fishersft.data.claims import claimed
from fishersft.data.keys import artifact_key
from fishersft.data.manifest import Manifest
from fishersft.data.store import Draft, Store
from fishersft.steps import weights
from fishersft.steps.held_out import stopping_examples
from fishersft.steps.models import (
    SPREAD,
    PreparedModel,
    device_of,
    devices_of,
    prepare_model,
    release_models,
    resolved,
    trained_config,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make, used
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.tokens import tokenised, tokens_digest

if TYPE_CHECKING:
    from fishersft.models.finetuning import TrainingRecord
    from fishersft.models.tokenising import Tokenised
    from fishersft.models.training_job import TrainingJob

FINETUNING_VERSION = 2
# How a step is computed, which changes the weights by rounding only, what becomes of them, and the model, an input.
_NOT_IN_THE_KEY = {"model", "packing", "passes_a_step", "gradient_checkpointing", "keep_weights"}
_SECONDS = "seconds"  # of a training whose weights lie beside the store, among the facts there


@dataclass(frozen=True)
class _Training:
    """A training before it is looked for; `train` writes the weights to a folder and gives the record's facts."""

    key: str  # of its record and of its weights
    params: dict[str, Any]
    inputs: dict[str, Any]
    sources: list[str]
    train: Callable[[Path], dict[str, Any]]


def finetune_on(
    store: Store,
    config: CurateConfig,
    corpus: str,
    selection: str,
    steps_per_epoch: int | None = None,
    on_progress: OnProgress | None = None,
    is_measured: Callable[[str], bool] | None = None,
) -> Outcome:
    """Fine-tunes the config's model on a selection; its record is an artifact of kind "training".

    The record's facts hold the number of sentences, tokens, steps and the losses. Where `finetune.model` names another
    model than the one that chose, the sentences are tokenised anew for it, and tokens are counted by its tokenizer. A
    training that was cut short goes on from its last checkpoint.

    The weights are an artifact of kind "fine-tuned-model" with the same key. With `is_measured` they lie beside the
    store, until `drop_weights` removes them, and a training that is on record and measured is not done again.

    Args:
        corpus: the corpus artifact's key, whose held-out examples early stopping looks at.
        selection: the selection artifact's key.
        steps_per_epoch: optimiser steps an epoch, to equal another training's; None: as the tokens fill.
        on_progress: called with (steps done, in all, a note of the loss).
        is_measured: whether nothing needs the weights of the training of that key; None: they are kept.

    Returns:
        The record; it counts as found where nothing had to be trained.
    """
    training = _training(store, config, corpus, selection, steps_per_epoch, on_progress)
    return _keep(store, training) if is_measured is None else _set_aside(store, training, is_measured)


def training_key(
    store: Store, config: CurateConfig, corpus: str, selection: str, steps_per_epoch: int | None = None
) -> str:
    """The key of what `finetune_on` finds or makes."""
    return _training(store, config, corpus, selection, steps_per_epoch, None).key


def _keep(store: Store, training: _Training) -> Outcome:
    def write(draft: Draft) -> None:
        draft.facts.update(training.train(draft.folder))

    params, inputs, sources = training.params, training.inputs, training.sources
    model = find_or_make(store, weights.KIND, FINETUNING_VERSION, params, inputs, write, sources)
    return used(store, _record(store, training, model.facts, model.seconds), model.hit)


def _set_aside(store: Store, training: _Training, is_measured: Callable[[str], bool]) -> Outcome:
    key = training.key
    record = store.find("training", key)
    if record is not None and is_measured(key):
        return used(store, record, hit=True)
    trained = False
    with claimed(store.files, weights.KIND, key, lambda: weights.has_weights(store, key)):
        if not weights.has_weights(store, key):
            started = time.perf_counter()
            facts = training.train(weights.new_folder_aside(store, key))
            weights.write_aside(store, key, {**facts, _SECONDS: time.perf_counter() - started})
            trained = True
    aside = weights.facts_aside(store, key)
    if aside is None:
        kept = store.get(weights.KIND, key)
        return used(store, _record(store, training, kept.facts, kept.seconds), hit=not trained)
    seconds = aside.pop(_SECONDS)
    return used(store, _record(store, training, aside, seconds), hit=not trained)


def _record(store: Store, training: _Training, facts: dict[str, Any], seconds: float) -> Manifest:
    """The record of a training that took so long; the first one stands."""
    found = store.find("training", training.key)
    if found is not None:
        return found
    params = {"version": FINETUNING_VERSION, **training.params}
    with store.publish("training", training.key, params, training.inputs, training.sources) as draft:
        draft.started -= seconds
        draft.facts.update(facts)
        (draft.folder / "training.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return store.get("training", training.key)


def _training(
    store: Store,
    config: CurateConfig,
    corpus: str,
    selection: str,
    steps_per_epoch: int | None,
    on_progress: OnProgress | None,
) -> _Training:
    config = trained_config(config)
    settings = config.finetune
    model = prepare_model(store, config.model)
    sentences = tokenised(model, config, picked_examples(store, config.corpus, load_picks(store, selection)))
    stopping = tokenised(model, config, stopping_examples(store, config, corpus))
    params = training_params(config, settings, steps_per_epoch)
    inputs = {"model": model.fingerprint, "tokens": tokens_digest(sentences)}
    sources = [f"selection/{selection}", *model.sources]
    if settings.early_stopping is not None:  # only then, so that trainings without keep their key
        params["early_stopping"] = settings.early_stopping
        inputs["held_out"] = tokens_digest(stopping)
        sources.append(f"corpus/{corpus}")
    key = artifact_key(weights.KIND, FINETUNING_VERSION, params, inputs)

    def train(folder: Path) -> dict[str, Any]:
        checkpoints = store.scratch(f"{weights.KIND}-{key}")
        record = train_into(folder, checkpoints, config, model, sentences, stopping, steps_per_epoch, on_progress)
        return {**asdict(record), "tokens": record.tokens_per_epoch * record.steps // record.steps_per_epoch}

    return _Training(key, params, inputs, sources, train)


def train_into(
    folder: Path,
    checkpoints: Path,
    config: CurateConfig,
    model: PreparedModel,
    sentences: list[Tokenised],
    held_out: list[Tokenised],
    steps_per_epoch: int | None,
    on_progress: OnProgress | None,
) -> TrainingRecord:
    """Trains a model by the config's `finetune`, on the devices that the config asks for.

    Args:
        folder: takes up the trained model.
        checkpoints: a place on this machine, from which a training that was cut short goes on.
        held_out: what early stopping looks at.
        steps_per_epoch, on_progress: as of `finetune_on`.
    """
    from fishersft.models.training_job import TrainingJob

    job = TrainingJob(
        model=model.folder,
        trust_remote_code=config.model.trust_remote_code,
        chat_template=config.corpus.chat_template,
        sentences=sentences,
        held_out=held_out,
        config=config.finetune,
        folder=folder,
        checkpoints=checkpoints,
        steps_per_epoch=steps_per_epoch,
        mixed_precision=config.model.dtype == "bfloat16",
        seed=config.seed,
    )
    release_models()
    return run_on_devices(job, device_of(config), on_progress)


def training_params(config: CurateConfig, settings: FinetuneConfig, steps_per_epoch: int | None) -> dict[str, Any]:
    """What of a training's settings, but for early stopping, changes the weights by more than rounding."""
    lora = {"lora_rank": settings.lora_rank} if settings.method == "lora" else {}
    return {
        **settings.model_dump(exclude=_NOT_IN_THE_KEY | {"early_stopping", "lora_rank"}),
        "steps_per_epoch": steps_per_epoch,
        "dtype": config.model.dtype,
        "seed": config.seed,
        **lora,
    }


def run_on_devices(job: TrainingJob, wanted: str | None, on_progress: OnProgress | None) -> TrainingRecord:
    """Trains on the device that is wanted, or on all GPUs; the Trainer takes the first, so others need a process.

    Args:
        wanted: as `device_of` gives it.
    """
    from fishersft.models.training_job import run_in_processes

    devices = [SPREAD] if wanted == SPREAD else devices_of(wanted)
    first = resolved(devices[0])
    if len(devices) == 1 and (first is None or not first.index):
        return job.run(first, on_progress)
    return run_in_processes(job, devices, on_progress)
