"""Gradient sketches of all layers, of a shard's sentences, as an artifact."""

from __future__ import annotations

from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.block_files import GRADIENTS_FILE, write_gradients
from fishersft.data.keys import artifact_key
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.corpus import shard_examples
from fishersft.steps.models import PreparedModel, computing_device, device_of, loaded_model, prepare_model
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.tokens import shard_tokens, tokenise_shard

LAYER_GRADIENTS_VERSION = 1


def sketch_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """The gradient sketches of a shard's sentences in all linear layers: an artifact of kind "gradients".

    `on_progress` is called with (loss tokens done, in all). Threads may do shards at once: on every device one
    computes, while others read, tokenise or upload.

    Raises:
        InputError: the model gives NaN or infinity for an example; or as `layer_gradients` says.
    """
    model = prepare_model(store, config.model)
    tokens = tokenise_shard(store, config, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.layer_gradients import layer_gradients

        sentences = shard_tokens(store, tokens)
        with computing_device(device_of(config)) as device:
            loaded = loaded_model(model, config.model.dtype, device, config.model.trust_remote_code)
            gradients = layer_gradients(loaded, sentences, config.embedding.batch_tokens, on_progress)
        finite = gradients.isfinite().all(dim=1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            text = shard_examples(store, config.corpus, shard)[row].canonical()[:100]
            raise InputError(
                f"the model's gradients are NaN or infinity for the example {text}…; try the other model.dtype, or "
                "leave the row out"
            )
        write_gradients(gradients, draft.folder / GRADIENTS_FILE)
        lengths = [sentence.loss_tokens for sentence in sentences]
        draft.facts.update(sentences=len(sentences), tokens=sum(lengths), lengths=lengths)

    params, inputs = _determinants(model, config, tokens)
    sources = [f"tokens/{tokens.key}", f"shard/{shard}", *model.sources]
    return find_or_make(store, "gradients", LAYER_GRADIENTS_VERSION, params, inputs, write, sources)


def gradients_key(model: PreparedModel, config: CurateConfig, tokens: Outcome) -> str:
    """The key of what `sketch_shard` finds or makes for a shard with these tokens."""
    return artifact_key("gradients", LAYER_GRADIENTS_VERSION, *_determinants(model, config, tokens))


def _determinants(model: PreparedModel, config: CurateConfig, tokens: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Params and inputs of the key."""
    return {"dtype": config.model.dtype}, {"model": model.fingerprint, "tokens": tokens.facts["digest"]}
