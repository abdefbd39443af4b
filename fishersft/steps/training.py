"""Fine-tuning on a selection: the trained model as an artifact."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fishersft.config import CurateConfig, FinetuneConfig
from fishersft.data.store import Draft, Store
from fishersft.steps.held_out import stopping_examples
from fishersft.steps.models import (
    SPREAD,
    device_of,
    devices_of,
    prepare_model,
    release_models,
    resolved,
    trained_config,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.tokens import tokenised, tokens_digest

if TYPE_CHECKING:
    from fishersft.models.finetuning import TrainingRecord
    from fishersft.models.training_job import TrainingJob

FINETUNING_VERSION = 2
# How a step is computed, which changes the weights by rounding only, and the model, which is an input.
_NOT_IN_THE_KEY = {"model", "packing", "passes_a_step", "gradient_checkpointing"}


def finetune_on(
    store: Store,
    config: CurateConfig,
    corpus: str,
    selection: str,
    steps_per_epoch: int | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Fine-tunes the config's model on a selection: an artifact of kind "fine-tuned-model".

    Its facts hold the number of sentences, tokens, steps and the losses. Where `finetune.model` names another model
    than the one that chose, the sentences are tokenised anew for it, and tokens are counted by its tokenizer. A
    training that was cut short goes on from its last checkpoint.

    Args:
        corpus: the corpus artifact's key, whose held-out examples early stopping looks at.
        selection: the selection artifact's key.
        steps_per_epoch: optimiser steps an epoch, to equal another training's; None: as the tokens fill.
        on_progress: called with (steps done, in all, a note of the loss).
    """
    config = trained_config(config)
    settings = config.finetune
    model = prepare_model(store, config.model)
    sentences = tokenised(model, config, picked_examples(store, config.corpus, load_picks(store, selection)))
    stopping = tokenised(model, config, stopping_examples(store, config, corpus))

    def write(draft: Draft) -> None:
        from fishersft.models.training_job import TrainingJob

        job = TrainingJob(
            model=model.folder,
            trust_remote_code=config.model.trust_remote_code,
            chat_template=config.corpus.chat_template,
            sentences=sentences,
            held_out=stopping,
            config=settings,
            folder=draft.folder,
            checkpoints=draft.checkpoint.with_suffix(""),
            steps_per_epoch=steps_per_epoch,
            mixed_precision=config.model.dtype == "bfloat16",
            seed=config.seed,
        )
        release_models()
        record = run_on_devices(job, device_of(config), on_progress)
        draft.facts.update(asdict(record), tokens=record.tokens_per_epoch * record.steps // record.steps_per_epoch)

    params = training_params(config, settings, steps_per_epoch)
    inputs = {"model": model.fingerprint, "tokens": tokens_digest(sentences)}
    sources = [f"selection/{selection}", *model.sources]
    if settings.early_stopping is not None:  # only then, so that trainings without keep their key
        params["early_stopping"] = settings.early_stopping
        inputs["held_out"] = tokens_digest(stopping)
        sources.append(f"corpus/{corpus}")
    return find_or_make(store, "fine-tuned-model", FINETUNING_VERSION, params, inputs, write, sources)


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
