"""Embedding a shard: its sentences' token blocks as an artifact."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from fishersft.config import CurateConfig
from fishersft.data.block_files import (
    EMBEDDINGS_FILE,
    GRADIENTS_FILE,
    SCORES,
    SPECTRUM,
    BlockWriter,
    write_gradients,
)
from fishersft.data.examples import Example
from fishersft.data.keys import artifact_key, digest_of
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks
from fishersft.numerics.projection import random_basis
from fishersft.numerics.spectra import squared_singular_values
from fishersft.steps.corpus import shard_examples
from fishersft.steps.models import (
    PreparedModel,
    computing_device,
    device_of,
    loaded_model,
    prepare_model,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.tokens import shard_tokens, tokenise_shard

if TYPE_CHECKING:
    from fishersft.models.embedding import Embedded

EMBEDDING_VERSION = 4
FISHER_WEIGHTS_VERSION = 2
GRADIENTS_VERSION = 2
THREADS_A_DEVICE = 2  # one computes, the other reads the next shard or uploads the last one


def embed_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """The prelogit embeddings of a shard's sentences: an artifact of kind "embeddings".

    Beside the blocks lies their spectrum, which tells every sentence's first gain for any lambda. Where the config's
    criterion is "fisher-weighted", the tokens' Fisher weights and negative log-likelihoods are there too; where it is
    "gradient-matching" by the last layer, those and the sentences' gradient sketches. Its facts count sentences, loss
    tokens, truncated sentences and sentences without a loss position.
    `on_progress` is called with (loss tokens done, in all). Threads may embed shards at once: on every device one
    computes, while others read, tokenise or upload.
    """
    model = prepare_model(store, config.model)
    tokens = tokenise_shard(store, config, shard)
    scored, with_gradients = _scored(config), _with_gradients(config)
    storage = config.embedding.storage or config.model.dtype

    def write(draft: Draft) -> None:
        from fishersft.models.embedding import embed
        from fishersft.models.output_layer import prelogit_dim

        sentences = shard_tokens(store, tokens)
        lengths = [sentence.loss_tokens for sentence in sentences]
        columns = (SPECTRUM, *SCORES) if scored else (SPECTRUM,)
        with ExitStack() as file, ThreadPoolExecutor(1) as behind:
            with computing_device(device_of(config)) as device:
                loaded = loaded_model(model, config.model.dtype, device, config.model.trust_remote_code)
                dim = prelogit_dim(loaded)
                basis = None if config.embedding.project_to is None else random_basis(dim, config.embedding.project_to)
                kept, place = dim if basis is None else basis.shape[1], draft.folder / EMBEDDINGS_FILE
                writer = file.enter_context(BlockWriter(place, lengths, kept, getattr(torch, storage), columns))
                writing = _Writing(writer, lambda row: _example(store, config, shard, row), basis)
                last = behind.submit(lambda: None)
                batch_tokens = config.embedding.batch_tokens
                asked = {"with_scores": scored, "with_gradients": with_gradients}
                for window in embed(loaded, sentences, batch_tokens, on_progress, **asked):
                    last.result()  # no more than one window waits
                    last = behind.submit(writing.write, window)
            last.result()  # now that another thread has the device
        if with_gradients:
            write_gradients(torch.cat(writing.gradients), draft.folder / GRADIENTS_FILE)
        if basis is not None:
            energy, discarded = torch.cat(writing.energies).T.tolist()
            draft.facts.update(dim=dim, energy=energy, discarded_energy=discarded)
        draft.facts.update(
            sentences=len(sentences),
            tokens=sum(lengths),
            lengths=lengths,
            truncated=sum(sentence.truncated for sentence in sentences),
            without_loss=lengths.count(0),
            tokenised_by=tokens.facts["by"],
        )

    params, inputs = _determinants(model, config, tokens)
    sources = [f"tokens/{tokens.key}", f"shard/{shard}", *model.sources]
    return find_or_make(store, "embeddings", EMBEDDING_VERSION, params, inputs, write, sources)


def embeddings_key(model: PreparedModel, config: CurateConfig, tokens: Outcome) -> str:
    """The key of what `embed_shard` finds or makes for a shard with these tokens."""
    return artifact_key("embeddings", EMBEDDING_VERSION, *_determinants(model, config, tokens))


def examples_digest(examples: list[Example]) -> str:
    """One digest of examples in their order."""
    return digest_of([example.digest for example in examples])


def _determinants(model: PreparedModel, config: CurateConfig, tokens: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Params and inputs of the key: all that changes the bytes, and nothing else."""
    params: dict[str, Any] = {"dtype": config.model.dtype}
    storage = config.embedding.storage or config.model.dtype
    if storage != config.model.dtype:  # only then, as what is computed is stored as it is by default
        params["storage"] = storage
    if _scored(config):  # only then, so that blocks alone keep their key
        params["fisher_weights"] = FISHER_WEIGHTS_VERSION
    if _with_gradients(config):
        params["gradients"] = GRADIENTS_VERSION
    if config.embedding.project_to is not None:
        params["project_to"] = config.embedding.project_to
    return params, {"model": model.fingerprint, "tokens": tokens.facts["digest"]}


def _with_gradients(config: CurateConfig) -> bool:
    """Whether gradient sketches of the last layer lie beside the blocks."""
    return config.chosen_criterion()[0] == "gradient-matching" and not config.matches_all_layers


def _scored(config: CurateConfig) -> bool:
    """Whether the LM head is applied."""
    return _with_gradients(config) or config.chosen_criterion()[0] == "fisher-weighted"


class _Writing:
    """Takes windows of embeddings to the file, and names the first example that the model gave NaN or infinity for.

    Args:
        writer: of the file.
        example: what an error shows of the example in a row.
        basis: (dim, kept), what is kept of the embeddings; None: all.

    Attributes:
        energies: of each window (sentences, 2), float64: the energy of a sentence's tokens, and what of it is not in
            the span of the basis; nothing where there is none.
        gradients: of each window the sentences' sketches, where there are any.
    """

    def __init__(self, writer: BlockWriter, example: Callable[[int], str], basis: torch.Tensor | None) -> None:
        self.energies: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []
        self._writer, self._example, self._basis = writer, example, basis
        self._done = 0

    def write(self, window: Embedded) -> None:
        """The next window."""
        self._check_finite(window.blocks)
        values = window.blocks.values
        if self._basis is not None:
            whole = values.double()
            values = whole @ self._basis
            energy = torch.stack([whole.square().sum(1), (whole - values @ self._basis.T).square().sum(1)], dim=1)
            self.energies.append(torch.stack([of.sum(0) for of in energy.split(window.blocks.lengths.tolist())]))
        rows = self._writer.as_stored(values)
        columns = {SPECTRUM: squared_singular_values(TokenBlocks(rows, window.blocks.offsets))}
        if window.scores is not None:
            columns |= {"weights": window.scores.fisher_weights, "nll": window.scores.nll}
        if window.gradients is not None:
            self.gradients.append(window.gradients)
        self._writer.write(rows, **columns)
        self._done += len(window.blocks)

    def _check_finite(self, blocks: TokenBlocks) -> None:
        if not bool(blocks.values.isfinite().all()):
            bad = next(i for i, block in enumerate(blocks) if not bool(block.isfinite().all()))
            raise InputError(
                f"the model gives NaN or infinity for the example {self._example(self._done + bad)}…; try the other "
                "model.dtype, or leave the row out"
            )


def _example(store: Store, config: CurateConfig, shard: str, row: int) -> str:
    return shard_examples(store, config.corpus, shard)[row].canonical()[:100]
