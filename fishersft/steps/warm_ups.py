"""Brief trainings that methods choose by: on a sample of the pool for LESS, on the target for cross-entropy difference.

Both are artifacts of kind "warm-up".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from fishersft.config import CurateConfig
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.corpus import load_index, target_config
from fishersft.steps.models import device_of, prepare_model, release_models, resolved
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.tokens import shard_tokens, tokenise_shard, tokens_digest
from fishersft.steps.training import train_into, training_params

if TYPE_CHECKING:
    from fishersft.models.tokenising import Tokenised

WARM_UP_VERSION = 1
TARGET_TUNING_VERSION = 1
SAMPLE = 0.05  # of the pool's rows are what LESS warms up on
_EPOCHS_ON_TARGET = 2  # at most


def warm_up_on_pool(store: Store, config: CurateConfig, corpus: str, on_progress: OnProgress | None = None) -> Outcome:
    """LESS's warm-up: LoRA adapters trained for 4 epochs on a random 5% of the pool: an artifact of kind "warm-up".

    It holds the adapters after each epoch with Adam's moments, see `load_checkpoint`; its facts are a `WarmUp`'s.
    Peak learning rate, tokens a step and LoRA's rank are those of `finetune`; the seed, the run's, draws the sample.

    Args:
        corpus: the pool's key.
        on_progress: called with (steps done, in all, a note of the loss).

    Raises:
        InputError: no row of the sample has a token that the loss counts.
    """
    model = prepare_model(store, config.model)
    settings = config.finetune
    sample = _sample(store, config, corpus)

    def write(draft: Draft) -> None:
        from fishersft.models.adapters import warm_up, with_adapters
        from fishersft.models.loading import load_model

        release_models()
        base = load_model(model.folder, "float32", resolved(device_of(config)), config.model.trust_remote_code)
        adapted = with_adapters(base, settings.lora_rank, config.seed)
        record = warm_up(adapted, sample, settings, draft.folder, seed=config.seed, on_progress=on_progress)
        draft.facts.update(asdict(record))

    params = {
        "lora_rank": settings.lora_rank,
        "learning_rate": settings.learning_rate,
        "batch_tokens": settings.batch_tokens,
        "seed": config.seed,
    }
    inputs = {"model": model.fingerprint, "tokens": tokens_digest(sample)}
    sources = [f"corpus/{corpus}", *model.sources]
    return find_or_make(store, "warm-up", WARM_UP_VERSION, params, inputs, write, sources)


def tune_on_target(store: Store, config: CurateConfig, target: str, on_progress: OnProgress | None = None) -> Outcome:
    """The choosing model briefly fine-tuned on the target: an artifact of kind "warm-up", a folder with the model.

    It takes the settings of `finetune`, and no more than 2 epochs.

    Args:
        config: with a target in its selection.
        target: its corpus artifact's key.
        on_progress: called with (steps done, in all, a note of the loss).
    """
    model = prepare_model(store, config.model)
    settings = config.finetune.model_copy(
        update={"epochs": min(config.finetune.epochs, _EPOCHS_ON_TARGET), "early_stopping": None, "model": None}
    )
    aimed = target_config(config)
    sentences = [
        sentence
        for shard in load_index(store, target).shards
        for sentence in shard_tokens(store, tokenise_shard(store, aimed, shard))
    ]

    def write(draft: Draft) -> None:
        brief, checkpoints = config.model_copy(update={"finetune": settings}), draft.checkpoint.with_suffix("")
        record = train_into(draft.folder, checkpoints, brief, model, sentences, [], None, on_progress)
        draft.facts.update(asdict(record))

    params = training_params(config, settings, None)
    inputs = {"model": model.fingerprint, "target": tokens_digest(sentences)}
    sources = [f"corpus/{target}", *model.sources]
    return find_or_make(store, "warm-up", TARGET_TUNING_VERSION, params, inputs, write, sources)


def _sample(store: Store, config: CurateConfig, corpus: str) -> list[Tokenised]:
    """A random twentieth of the pool's rows, those of them that can be trained on."""
    tokens = [tokenise_shard(store, config, shard) for shard in load_index(store, corpus).shards]
    ends = np.cumsum([outcome.facts["rows"] for outcome in tokens])
    drawn = np.sort(np.random.default_rng(config.seed).permutation(ends[-1])[: max(1, round(SAMPLE * ends[-1]))])
    shards = np.searchsorted(ends, drawn, side="right")
    sample: list[Tokenised] = []
    for shard in np.unique(shards):
        sentences = shard_tokens(store, tokens[shard])
        begin = ends[shard] - len(sentences)
        sample += _with_loss([sentences[row] for row in drawn[shards == shard] - begin])
    if not sample:
        raise InputError(
            f"LESS warms up on {len(drawn)} of the pool's {ends[-1]} rows, and none of them has a token that the loss "
            "counts; use a larger corpus or another seed"
        )
    return sample


def _with_loss(sentences: Sequence[Tokenised]) -> list[Tokenised]:
    return [sentence for sentence in sentences if sentence.loss_tokens]
