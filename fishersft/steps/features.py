"""What methods that aim at a target know of every example: artifacts of kind "features" and "scores", a shard each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from fishersft.config import CurateConfig
from fishersft.data.store import Draft, Store
from fishersft.models.source import tokenizer_fingerprint
from fishersft.steps.models import PreparedModel, device_of, loaded_model, prepare_model, resolved
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.row_scores import SCORES_FILE
from fishersft.steps.tokens import shard_tokens, tokenise_shard

REPRESENTATION_VERSION = 1
GRADIENT_VERSION = 1
NATS_VERSION = 2
_FEATURES_FILE = "features.safetensors"


def represent_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """The `weighted_means` of a shard's examples, which RDS+ compares: an artifact of kind "features".

    `on_progress` is called with (tokens done, in all).
    """
    model, tokens = prepare_model(store, config.model), tokenise_shard(store, config, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.representations import weighted_means

        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        means = weighted_means(loaded, shard_tokens(store, tokens), config.embedding.batch_tokens, on_progress)
        _write_features(means.numpy(), draft.folder, np.float32)

    params = {"of": "hidden states", "dtype": config.model.dtype}
    inputs = {"model": model.fingerprint, "tokens": tokens.facts["digest"]}
    sources = [f"tokens/{tokens.key}", f"shard/{shard}", *model.sources]
    return find_or_make(store, "features", REPRESENTATION_VERSION, params, inputs, write, sources)


def gradients_of_shard(
    store: Store,
    config: CurateConfig,
    shard: str,
    warm_up: str,
    epoch: int,
    adam: bool,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """The `gradient_features` of a shard's examples at a checkpoint of LESS: an artifact of kind "features".

    The model is in `model.dtype`, its adapters in float32.

    Args:
        warm_up: the key of what `warm_up_on_pool` made.
        epoch: of the checkpoint, counted from 0.
        adam: as Adam would step, for the pool; else plain gradients, for the target.
        on_progress: called with (examples done, in all).
    """
    model, tokens = prepare_model(store, config.model), tokenise_shard(store, config, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.adapters import checkpoint_file, load_checkpoint, with_adapters
        from fishersft.models.example_gradients import gradient_features
        from fishersft.models.loading import load_model

        device, trusted = resolved(device_of(config)), config.model.trust_remote_code
        base = load_model(model.folder, config.model.dtype, device, trusted)
        adapted = with_adapters(base, store.get("warm-up", warm_up).params["lora_rank"], seed=0)
        moments = load_checkpoint(adapted, store.fetch("warm-up", warm_up) / checkpoint_file(epoch))
        sentences, batch_tokens = shard_tokens(store, tokens), config.embedding.batch_tokens
        features = gradient_features(adapted, sentences, moments if adam else None, batch_tokens, on_progress)
        _write_features(features.numpy(), draft.folder, np.float16)

    params = {"of": "gradients", "epoch": epoch, "adam": adam, "dtype": config.model.dtype}
    inputs = {"warm_up": warm_up, "tokens": tokens.facts["digest"]}
    sources = [f"warm-up/{warm_up}", f"tokens/{tokens.key}", f"shard/{shard}", *model.sources]
    return find_or_make(store, "features", GRADIENT_VERSION, params, inputs, write, sources)


def nats_after_tuning(
    store: Store, config: CurateConfig, shard: str, tuned: str, on_progress: OnProgress | None = None
) -> Outcome:
    """Nats per token of a shard's examples under the model tuned on the target: an artifact of kind "scores".

    Args:
        tuned: the key of what `tune_on_target` made.
        on_progress: called with (examples done, in all).
    """
    base, tokens = prepare_model(store, config.model), tokenise_shard(store, config, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.evaluating import sentence_nll

        folder = store.fetch("warm-up", tuned)
        model = PreparedModel(folder, base.context, tokenizer_fingerprint(folder), tuned)
        sentences = shard_tokens(store, tokens)
        nats, counted = np.zeros(len(sentences)), np.flatnonzero([sentence.loss_tokens for sentence in sentences])
        if counted.size:
            loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
            chosen = [sentences[i] for i in counted]
            nll = sentence_nll(loaded, chosen, config.embedding.batch_tokens, on_progress)
            nats[counted] = nll / [sentence.loss_tokens for sentence in chosen]
        pq.write_table(pa.table({"nats": pa.array(nats, pa.float64())}), draft.folder / SCORES_FILE)

    params: dict[str, Any] = {"of": "nats per token", "dtype": config.model.dtype}
    inputs = {"warm_up": tuned, "tokens": tokens.facts["digest"]}
    sources = [f"warm-up/{tuned}", f"tokens/{tokens.key}", f"shard/{shard}"]
    return find_or_make(store, "scores", NATS_VERSION, params, inputs, write, sources)


def read_features(store: Store, keys: list[str]) -> np.ndarray:
    """The features of some shards, one after another: (examples, dim), float32; of length 1, or 0."""
    files = [load_file(store.fetch("features", key) / _FEATURES_FILE) for key in keys]
    return np.concatenate([file["directions"].astype(np.float32) for file in files])


def mean_feature(store: Store, keys: list[str]) -> np.ndarray:
    """The mean of the features of some shards, at the lengths that they had: (1, dim), float64."""
    files = [load_file(store.fetch("features", key) / _FEATURES_FILE) for key in keys]
    total = sum(file["lengths"].astype(np.float64) @ file["directions"].astype(np.float64) for file in files)
    return np.atleast_2d(total / sum(len(file["lengths"]) for file in files))


def _write_features(features: np.ndarray, folder: Path, dtype: type[np.floating]) -> None:
    """Writes features (examples, dim) as directions, of length 1 or 0, in that dtype, and their lengths in float32."""
    lengths = np.linalg.norm(features, axis=1)
    directions = (features / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(dtype)
    save_file({"directions": directions, "lengths": lengths.astype(np.float32)}, folder / _FEATURES_FILE)
