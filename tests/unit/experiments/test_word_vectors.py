"""Word vectors from text files: both forms are read, a bad line is named, few dimensions keep what differs most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.experiments.word_vectors import read_vectors, reduced

GLOVE = "the 0.1 -0.2 0.3\nof 1 2 3\nNew_York 4 5 6\n"


@pytest.mark.parametrize("first", ["", "3 3\n"], ids=["GloVe", "word2vec"])
def test_the_first_words_are_read_in_order(tmp_path: Path, first: str) -> None:
    (tmp_path / "vectors.txt").write_text(first + GLOVE)
    np.testing.assert_array_equal(read_vectors(tmp_path / "vectors.txt", 2), [[0.1, -0.2, 0.3], [1, 2, 3]])


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (GLOVE, 4, r"vectors.txt has 3 words, but `words` is 4; ask for fewer"),
        ("the 1 2\nof 1 2 3\n", 2, r"vectors.txt:2: expected 2 finite numbers after the word, found 3"),
        ("the 1 nan\n", 1, r"vectors.txt:1: expected finite numbers after the word, found 2"),
        ("the one two\n", 1, r"vectors.txt:1: expected a word and numbers, found 'the one two'"),
    ],
)
def test_what_is_no_word_vector_is_named_with_its_line(tmp_path: Path, content: str, words: int, message: str) -> None:
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path / "vectors.txt", words)


def test_a_binary_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"2 2\nthe \xff\xfe\x00\x81")
    with pytest.raises(InputError, match="word2vec's binary form is not read"):
        read_vectors(tmp_path / "binary.txt", 1)


def test_few_dimensions_are_those_in_which_the_words_differ_most() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 6)) * [1, 20, 1, 10, 1, 1] + 100
    found = reduced(vectors, 2)
    assert found.shape == (200, 2)
    assert (found**2).sum(axis=1).mean() == pytest.approx(2)
    assert abs(np.corrcoef(found[:, 0], vectors[:, 1])[0, 1]) > 0.99
    with pytest.raises(InputError, match="200 vectors of 6 dimensions cannot be reduced to 7"):
        reduced(vectors, 7)
