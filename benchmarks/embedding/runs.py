"""The runs that are timed: this project's, the bare model's forward pass, and what people would write instead.

Each is called in a process of its own with the same texts and the same model, and counts the same thing: tokens of the
texts, padding not included.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.embedding.texts import settings_for
from benchmarks.selection.measure import Measured, measure

MAX_TOKENS = 64
_FLOOR_LENGTHS, _FLOOR_TOKENS = (32, 64), (1024, 2048)
_FLOOR_REPEATS = 2


def ours(texts: Sequence[str], folder: Path, dtype: str) -> Measured:
    """`embed_shard` on all shards: reading, tokenising, the model, hashing and writing artifacts."""
    from concurrent.futures import ThreadPoolExecutor

    from fishersft.steps.corpus import read_corpus
    from fishersft.steps.embedding import THREADS_A_DEVICE, embed_shard
    from fishersft.steps.outcome import open_store

    with TemporaryDirectory(dir=folder) as scratch:
        config = settings_for(Path(scratch), list(texts), dtype=dtype)
        store = open_store(config.store)
        shards = read_corpus(store, config).facts["shard_keys"]
        _warm_up(store, config)

        def run() -> list[int]:
            with ThreadPoolExecutor(THREADS_A_DEVICE) as threads:
                outcomes = list(threads.map(lambda shard: embed_shard(store, config, shard), shards))
            assert not any(outcome.hit for outcome in outcomes)
            return [outcome.facts["tokens"] + outcome.facts["sentences"] for outcome in outcomes]

        with _stopwatches() as seconds:
            tokens, measured = measure(run)
    return replace(measured, facts={"tokens": sum(tokens), "seconds": dict(seconds)})


def floor(model: Path, dtype: str) -> Measured:
    """The bare decoder on equal-length rows, at the best of some batches: tokens a second."""
    decoder = _decoder(model, dtype)
    best, shape = 0.0, ""
    for length in _FLOOR_LENGTHS:
        for tokens in _FLOOR_TOKENS:
            ids = torch.randint(0, 1000, (tokens // length, length))
            with torch.inference_mode():
                decoder(input_ids=ids, use_cache=False)
                started = time.perf_counter()
                for _ in range(_FLOOR_REPEATS):
                    decoder(input_ids=ids, use_cache=False)
            rate = _FLOOR_REPEATS * ids.numel() / (time.perf_counter() - started)
            if rate > best:
                best, shape = rate, f"{len(ids)} rows of {length}"
    return Measured(1.0, None, None, facts={"tokens": best, "shape": shape})


def one_at_a_time(texts: Sequence[str], model: Path) -> Measured:
    """A plain loop: a sentence, a forward pass, its last hidden states."""
    tokenizer, decoder = _tokenizer(model), _decoder(model, "float32")

    @torch.inference_mode()
    def run() -> int:
        tokens = 0
        for text in texts:
            encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
            tokens += decoder(**encoded, use_cache=False).last_hidden_state.shape[1]
        return tokens

    return _timed(run)


def in_corpus_order(texts: Sequence[str], model: Path) -> Measured:
    """Batches of 32 in the order of the corpus, padded to the longest."""
    tokenizer, decoder = _tokenizer(model), _decoder(model, "float32")

    @torch.inference_mode()
    def run() -> int:
        tokens = 0
        for start in range(0, len(texts), 32):
            batch = list(texts[start : start + 32])
            encoded = tokenizer(batch, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS)
            states = decoder(**encoded, use_cache=False).last_hidden_state
            kept = states[encoded["attention_mask"].bool()]
            tokens += len(kept)
        return tokens

    return _timed(run)


def by_sentence_transformers(texts: Sequence[str], model: Path) -> Measured:
    """sentence-transformers' token embeddings of the same model, in its own batches."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Transformer

    transformer = Transformer(str(model), max_seq_length=MAX_TOKENS)
    transformer.tokenizer.pad_token = transformer.tokenizer.pad_token or transformer.tokenizer.eos_token
    encoder = SentenceTransformer(modules=[transformer], device="cpu")
    encoder.encode(list(texts[:4]), output_value="token_embeddings", show_progress_bar=False)

    def run() -> int:
        embedded = encoder.encode(list(texts), output_value="token_embeddings", show_progress_bar=False)
        return sum(len(rows) for rows in embedded)

    return _timed(run)


def prepared_model(folder: Path) -> Path:
    """The demo's model as a folder for `from_pretrained`."""
    from fishersft.steps.models import prepare_model
    from fishersft.steps.outcome import open_store

    config = settings_for(folder, ["a text"], "float32")
    return prepare_model(open_store(config.store), config.model).folder


def _timed(run: Callable[[], int]) -> Measured:
    tokens, measured = measure(run)
    return replace(measured, facts={"tokens": tokens})


def _warm_up(store: Any, config: Any) -> None:
    """Converts and loads the model, and runs it once."""
    from fishersft.steps.models import device_of, loaded_model, prepare_model

    model = loaded_model(prepare_model(store, config.model), config.model.dtype, device_of(config), False)
    with torch.inference_mode():
        model.base_model(input_ids=torch.ones(1, 8, dtype=torch.long), use_cache=False)


def _tokenizer(model: Path) -> Any:
    from fishersft.models.loading import load_tokenizer

    return load_tokenizer(model)


def _decoder(model: Path, dtype: str) -> Any:
    from transformers import AutoModel

    decoder = AutoModel.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    with torch.inference_mode():
        decoder(input_ids=torch.ones(1, 8, dtype=torch.long), use_cache=False)
    return decoder


@contextmanager
def _stopwatches() -> Iterator[Counter[str]]:
    """Seconds of processor time by what they were spent on: the model, and what is beside it."""
    from fishersft.data import block_files, store
    from fishersft.models import forward, tokenising

    seconds = Counter[str]()
    watched = (
        (forward, "last_hidden_states", "the model's forward passes"),
        (tokenising.Tokeniser, "__call__", "tokenising"),
        (block_files.BlockWriter, "write", "writing blocks"),
        (store, "_entries", "hashing files"),
        (store.Store, "_put_files", "publishing files"),
    )
    before = [(place, name, getattr(place, name)) for place, name, _ in watched]
    for place, name, what in watched:
        setattr(place, name, _watched(getattr(place, name), what, seconds))
    try:
        yield seconds
    finally:
        for place, name, original in before:
            setattr(place, name, original)


def _watched(function: Callable[..., Any], what: str, seconds: Counter[str]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[what] += time.perf_counter() - started  # type: ignore[assignment]

    return timed
