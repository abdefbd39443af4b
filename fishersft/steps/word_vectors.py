"""Where a simulation's word vectors come from: a text file, or a model's input embeddings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fishersft.config import ModelConfig
from fishersft.data.keys import file_digest
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.experiments.word_vectors import read_vectors, reduced
from fishersft.steps.models import loaded_model, loaded_tokeniser, prepare_model

_TEXT = (".txt", ".vec")


@lru_cache(maxsize=8)
def vectors_fingerprint(store: Store, place: str) -> str:
    """What determines the vectors: the file's digest, or the model's fingerprint.

    Raises:
        InputError: it is not there.
    """
    if not place.endswith(_TEXT):
        return prepare_model(store, ModelConfig(path=place)).fingerprint
    try:
        return file_digest(Path(place))
    except FileNotFoundError as error:
        raise InputError(f"{place}: no such file; `vectors` names a word2vec or GloVe text file, or a model") from error


@lru_cache(maxsize=8)
def word_vectors(store: Store, place: str, words: int, dim: int) -> np.ndarray:
    """Vectors of so many words, most frequent first, in so many dimensions: (words, dim), float64.

    Args:
        place: a word2vec or GloVe text file (.txt, .vec), or a model as `model.path` has it. Of a model's tokens those
            are taken that are whole words of letters, in the order of their numbers, which is that in which a
            byte-pair tokenizer learnt them: about that of frequency.

    Raises:
        InputError: it is not there or not readable, or has fewer words or dimensions.
    """
    return reduced(_found(store, place, words), dim)


def _found(store: Store, place: str, words: int) -> np.ndarray:
    if place.endswith(_TEXT):
        return read_vectors(Path(place), words)
    return _input_embeddings(store, place, words)


def _input_embeddings(store: Store, place: str, words: int) -> np.ndarray:
    model = prepare_model(store, ModelConfig(path=place))
    weight: Any = loaded_model(model, "float32", None, False).get_input_embeddings().weight
    tokenizer = loaded_tokeniser(model, model.context, False).tokenizer
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(weight)))))
    whole = [i for i, piece in enumerate(pieces) if piece[:1] in ("\u0120", "\u2581") and piece[1:].isalpha()][:words]
    if len(whole) < words:
        raise InputError(f"{place} has {len(whole):,} tokens that are words, but `words` is {words:,}; ask for fewer")
    vectors: np.ndarray = weight.detach()[whole].double().cpu().numpy()
    return vectors
