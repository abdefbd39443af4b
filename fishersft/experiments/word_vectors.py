"""Pretrained word vectors: from a word2vec or GloVe text file, or the rows of a matrix, in few dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fishersft.errors import InputError


def read_vectors(path: Path, words: int) -> np.ndarray:
    """The vectors of a text file's first words, which are the most frequent in such files: (words, dim), float64.

    A line is a word and its numbers, with spaces between. word2vec's first line, the number of words and of dimensions,
    is passed over.

    Raises:
        InputError: the file is no text, a line is not a word and numbers, or there are fewer words.
    """
    vectors = list[np.ndarray]()
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                parts = line.rstrip().split(" ")
                if number == 1 and len(parts) == 2:
                    continue
                vectors.append(_numbers(path, number, parts, len(vectors[0]) if vectors else None))
                if len(vectors) == words:
                    return np.stack(vectors)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error}); word2vec's binary form is not read") from error
    raise InputError(f"{path} has {len(vectors):,} words, but `words` is {words:,}; ask for fewer")


def _numbers(path: Path, number: int, parts: list[str], dim: int | None) -> np.ndarray:
    try:
        vector = np.array(parts[1:], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}:{number}: expected a word and numbers, found {' '.join(parts)[:60]!r}") from error
    if not len(vector) or (dim is not None and len(vector) != dim) or not np.isfinite(vector).all():
        expected = "finite numbers" if dim is None else f"{dim} finite numbers"
        raise InputError(f"{path}:{number}: expected {expected} after the word, found {len(vector)}: {vector[:3]}")
    return vector


def reduced(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Vectors in the `dim` directions in which they differ most, of mean squared length `dim`: (words, dim), float64.

    Raises:
        InputError: there are fewer dimensions.

    Source: Pearson (1901), principal components.
    """
    if vectors.shape[1] < dim or len(vectors) < dim:
        raise InputError(f"{len(vectors)} vectors of {vectors.shape[1]} dimensions cannot be reduced to {dim}")
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found = centred @ directions[:dim].T
    return found * np.sqrt(dim / (found**2).sum(axis=1).mean())
