"""Embedding a shard: its sentences' token blocks as an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fishersft.config import CurateConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, SCORES, BlockWriter
from fishersft.data.examples import Example
from fishersft.data.keys import artifact_key, digest_of
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.numerics.projection import random_basis
from fishersft.steps.corpus import shard_examples
from fishersft.steps.models import (
    PreparedModel,
    computing_device,
    device_of,
    loaded_model,
    loaded_tokeniser,
    most_tokens,
    prepare_model,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make

if TYPE_CHECKING:
    from fishersft.models.embedding import Embedded

EMBEDDING_VERSION = 2
FISHER_WEIGHTS_VERSION = 2
TOKENISING_VERSION = 1
THREADS_A_DEVICE = 2  # one computes, the other reads the next shard or uploads the last one


def embed_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """The prelogit embeddings of a shard's sentences: an artifact of kind "embeddings".

    Where the config's criterion is "fisher-weighted", the tokens' Fisher weights and negative log-likelihoods lie
    beside them. Its facts count sentences, loss tokens, truncated sentences and sentences without a loss position.
    `on_progress` is called with (loss tokens done, in all). Threads may embed shards at once: on every device one
    computes, while others read, tokenise or upload.
    """
    model = prepare_model(store, config.model)
    examples = shard_examples(store, config.corpus, shard)
    weighted = config.selection.criterion == "fisher-weighted"
    storage = config.embedding.storage or config.model.dtype

    def write(draft: Draft) -> None:
        from fishersft.models.embedding import embed

        tokeniser = loaded_tokeniser(model, most_tokens(model, config.model), config.model.trust_remote_code)
        sentences = [tokeniser(example) for example in examples]
        lengths = [sentence.loss_tokens for sentence in sentences]
        with computing_device(device_of(config)) as device:
            loaded = loaded_model(model, config.model.dtype, device, config.model.trust_remote_code)
            dim = loaded.config.get_text_config().hidden_size
            basis = None if config.embedding.project_to is None else random_basis(dim, config.embedding.project_to)
            windows = embed(loaded, sentences, config.embedding.batch_tokens, on_progress, with_scores=weighted)
            file, kept = draft.folder / EMBEDDINGS_FILE, dim if basis is None else basis.shape[1]
            with BlockWriter(file, lengths, kept, getattr(torch, storage), SCORES if weighted else ()) as writer:
                energies = _write(writer, windows, examples, basis)
        if basis is not None:
            energy, discarded = torch.cat(energies).T.tolist()
            draft.facts.update(dim=dim, energy=energy, discarded_energy=discarded)
        draft.facts.update(
            sentences=len(sentences),
            tokens=sum(lengths),
            lengths=lengths,
            truncated=sum(sentence.truncated for sentence in sentences),
            without_loss=lengths.count(0),
        )

    params, inputs = _determinants(model, config, examples)
    return find_or_make(
        store, "embeddings", EMBEDDING_VERSION, params, inputs, write, [f"shard/{shard}", *model.sources]
    )


def embeddings_key(model: PreparedModel, config: CurateConfig, examples: list[Example]) -> str:
    """The key of what `embed_shard` finds or makes for a shard of these examples."""
    return artifact_key("embeddings", EMBEDDING_VERSION, *_determinants(model, config, examples))


def tokenising_params(model: PreparedModel, config: CurateConfig) -> dict[str, int]:
    """What determines token ids and loss positions, given the examples and the model."""
    return {"tokenising": TOKENISING_VERSION, "max_tokens": most_tokens(model, config.model)}


def examples_digest(examples: list[Example]) -> str:
    """One digest of examples in their order."""
    return digest_of([example.digest for example in examples])


def _determinants(
    model: PreparedModel, config: CurateConfig, examples: list[Example]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Params and inputs of the key: all that changes the bytes, and nothing else."""
    params: dict[str, Any] = {**tokenising_params(model, config), "dtype": config.model.dtype}
    storage = config.embedding.storage or config.model.dtype
    if storage != config.model.dtype:  # only then, as what is computed is stored as it is by default
        params["storage"] = storage
    if config.selection.criterion == "fisher-weighted":  # only then, so that blocks alone keep their key
        params["fisher_weights"] = FISHER_WEIGHTS_VERSION
    if config.embedding.project_to is not None:
        params["project_to"] = config.embedding.project_to
    return params, {"model": model.fingerprint, "examples": examples_digest(examples)}


def _write(
    writer: BlockWriter, windows: Iterator[Embedded], examples: Sequence[Example], basis: torch.Tensor | None
) -> list[torch.Tensor]:
    """Writes windows one after the other, and names the first example that the model answered with NaN or infinity.

    Returns:
        Of each window (sentences, 2), float64: the energy of a sentence's tokens, and what of it is not in the span of
        the basis; nothing where there is none.
    """
    first, energies = 0, []
    for window in windows:
        values = window.blocks.values
        if not bool(values.isfinite().all()):
            bad = next(i for i, block in enumerate(window.blocks) if not bool(block.isfinite().all()))
            raise InputError(
                f"the model gives NaN or infinity for the example {examples[first + bad].canonical()[:100]}…; try the "
                "other model.dtype, or leave the row out"
            )
        if basis is not None:
            rows = values.double()
            values = rows @ basis
            energy = torch.stack([rows.square().sum(1), (rows - values @ basis.T).square().sum(1)], dim=1)
            energies.append(torch.stack([of.sum(0) for of in energy.split(window.blocks.lengths.tolist())]))
        scores = window.scores
        writer.write(values, **({} if scores is None else {"weights": scores.fisher_weights, "nll": scores.nll}))
        first += len(window.blocks)
    return energies
