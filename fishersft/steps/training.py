"""Fine-tuning on a selection: the trained model as an artifact."""

from __future__ import annotations

from dataclasses import asdict

from fishersft.config import CurateConfig
from fishersft.data.store import Draft, Store
from fishersft.steps.embedding import examples_digest, tokenising_params
from fishersft.steps.models import device_of, loaded_tokeniser, most_tokens, prepare_model, resolved
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.picks import load_picks, picked_examples

FINETUNING_VERSION = 1


def finetune_on(
    store: Store,
    config: CurateConfig,
    selection: str,
    steps_per_epoch: int | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Fine-tunes the config's model on a selection: an artifact of kind "fine-tuned-model".

    Its facts hold the number of sentences, tokens, steps and the losses.

    Args:
        selection: the selection artifact's key.
        steps_per_epoch: optimiser steps an epoch, to equal another training's; None: as the tokens fill.
        on_progress: called with (steps done, in all).
    """
    model = prepare_model(store, config.model)
    examples = picked_examples(store, config.corpus, load_picks(store, selection))

    def write(draft: Draft) -> None:
        import torch

        from fishersft.models.finetuning import finetune
        from fishersft.models.loading import load_model

        tokeniser = loaded_tokeniser(model, most_tokens(model, config.model), config.model.trust_remote_code)
        torch.manual_seed(config.seed)
        record = finetune(
            load_model(model.folder, "float32", resolved(device_of(config)), config.model.trust_remote_code),
            tokeniser.tokenizer,
            [tokeniser(example) for example in examples],
            config.finetune,
            draft.folder,
            steps_per_epoch=steps_per_epoch,
            mixed_precision=config.model.dtype == "bfloat16",
            seed=config.seed,
            on_progress=on_progress,
        )
        draft.facts.update(
            asdict(record),
            tokens=record.tokens_per_epoch * config.finetune.epochs,
            steps_per_epoch=record.steps // config.finetune.epochs,
        )

    params = {
        **tokenising_params(model, config),
        **config.finetune.model_dump(exclude={"lora_rank"} if config.finetune.method == "full" else set()),
        "steps_per_epoch": steps_per_epoch,
        "dtype": config.model.dtype,
        "seed": config.seed,
    }
    inputs = {"model": model.fingerprint, "examples": examples_digest(examples)}
    sources = [f"selection/{selection}", *model.sources]
    return find_or_make(store, "fine-tuned-model", FINETUNING_VERSION, params, inputs, write, sources)
