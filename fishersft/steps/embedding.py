"""Embedding a shard: its sentences' token blocks as an artifact."""

from __future__ import annotations

from fishersft.config import CurateConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, write_blocks
from fishersft.data.examples import Example
from fishersft.data.keys import digest_of
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks
from fishersft.steps.corpus import shard_examples
from fishersft.steps.models import (
    COMPUTING,
    PreparedModel,
    loaded_model,
    loaded_tokeniser,
    most_tokens,
    prepare_model,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make

EMBEDDING_VERSION = 1
FISHER_WEIGHTS_VERSION = 1
TOKENISING_VERSION = 1
EMBEDDING_THREADS = 2  # one computes, the other reads the next shard or uploads the last one


def embed_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """The prelogit embeddings of a shard's sentences: an artifact of kind "embeddings".

    Where the config's criterion is "fisher-weighted", the tokens' Fisher weights lie beside them. Its facts count
    sentences, loss tokens, truncated sentences and sentences without a loss position. `on_progress` is called with
    (loss tokens done, in all). Threads may embed shards at once: one computes while others read, tokenise or upload.
    """
    model = prepare_model(store, config.model)
    examples = shard_examples(store, config.corpus, shard)
    weighted = config.selection.criterion == "fisher-weighted"

    def write(draft: Draft) -> None:
        from fishersft.models.embedding import embed

        tokeniser = loaded_tokeniser(model, most_tokens(model, config.model), config.model.trust_remote_code)
        sentences = [tokeniser(example) for example in examples]
        with COMPUTING:
            loaded = loaded_model(model, config.model.dtype, config.device, config.model.trust_remote_code)
            embedded = embed(
                loaded, sentences, config.embedding.batch_tokens, on_progress, with_fisher_weights=weighted
            )
        blocks = embedded.blocks
        _check_finite(blocks, examples)
        write_blocks(blocks, draft.folder / EMBEDDINGS_FILE, embedded.fisher_weights)
        draft.facts.update(
            sentences=len(sentences),
            tokens=int(blocks.lengths.sum()),
            lengths=blocks.lengths.tolist(),
            truncated=sum(sentence.truncated for sentence in sentences),
            without_loss=sum(sentence.loss_tokens == 0 for sentence in sentences),
        )

    params = {**tokenising_params(model, config), "dtype": config.model.dtype}
    if weighted:  # only then, so that blocks alone keep their key
        params["fisher_weights"] = FISHER_WEIGHTS_VERSION
    inputs = {"model": model.fingerprint, "examples": examples_digest(examples)}
    return find_or_make(
        store, "embeddings", EMBEDDING_VERSION, params, inputs, write, [f"shard/{shard}", *model.sources]
    )


def tokenising_params(model: PreparedModel, config: CurateConfig) -> dict[str, int]:
    """What determines token ids and loss positions, given the examples and the model."""
    return {"tokenising": TOKENISING_VERSION, "max_tokens": most_tokens(model, config.model)}


def examples_digest(examples: list[Example]) -> str:
    """One digest of examples in their order."""
    return digest_of([example.digest for example in examples])


def _check_finite(blocks: TokenBlocks, examples: list[Example]) -> None:
    """Names the first example that the model answered with NaN or infinity."""
    for block, example in zip(blocks, examples, strict=True):
        if not block.isfinite().all():
            raise InputError(
                f"the model gives NaN or infinity for the example {example.canonical()[:100]}…; try the other "
                "model.dtype, or leave the row out"
            )
