"""Sentences of tokens from a softmax model whose parameters are known, so that an estimate's error can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.experiments.softmax_regression import centred, probabilities
from fishersft.numerics.blocks import TokenBlocks

Features = Literal["independent", "own tokens", "own tokens, redrawn"]


@dataclass(frozen=True)
class WordProblem:
    """Sentences: at each position a word, whose vector is the feature, and a token drawn from the softmax model.

    Attributes:
        vectors: (words, dim), float64; the feature of each word.
        theta: (dim, classes), float64; the model's parameters, centred over the classes.
        words: (sentences, positions), integers under `words`.
        tokens: (sentences, positions), integers under `classes`.
    """

    vectors: np.ndarray
    theta: np.ndarray
    words: np.ndarray
    tokens: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each sentence: (sentences,), int64."""
        return np.full(len(self.words), self.words.shape[1])

    @property
    def blocks(self) -> TokenBlocks:
        """The features of each sentence, float32."""
        rows = torch.from_numpy(self.vectors[self.words.ravel()].astype(np.float32))
        return TokenBlocks(rows, torch.from_numpy(np.append(0, self.lengths.cumsum())))

    def counts(self, sentences: np.ndarray) -> np.ndarray:
        """How often each token was seen after each word in those sentences: (words, classes), float64."""
        counts = np.zeros((len(self.vectors), self.theta.shape[1]))
        np.add.at(counts, (self.words[sentences].ravel(), self.tokens[sentences].ravel()), 1)
        return counts

    def errors(self, estimate: np.ndarray) -> np.ndarray:
        """The prediction error of each sentence: (sentences,), float64.

            E_i = sum over positions j of |(theta - estimate)^T x_ij|_2

        Source: Deb et al. (2025), arXiv:2505.14826, section 6 (their maximum over i and mean are what is compared).
        """
        of_word = np.linalg.norm(self.vectors @ (self.theta - centred(estimate)), axis=1)
        return of_word[self.words].sum(axis=1)


def draw_problem(
    vectors: np.ndarray, classes: int, sentences: int, positions: int, features: Features, rng: np.random.Generator
) -> WordProblem:
    """Draws the model's parameters and the sentences.

    The parameters are normal, of such a size that a token's logits have variance 1. Words come from Zipf's law: the
    k-th in proportion to 1 / k. What the words of a sentence are is the one thing that `features` changes:

    * "independent": drawn before and apart from the tokens, as the theory has it: the features are fixed.
    * "own tokens": each word is the token before it, the first is drawn evenly; as in a language model, where an
      embedding is made from the tokens that came before. Who chooses by such features chooses by the outcomes.
    * "own tokens, redrawn": the same words, but tokens drawn anew after them, so that a choice knows no outcome.

    Args:
        vectors: (words, dim); with a token's own features there is one for each class.

    Raises:
        InputError: features of own tokens, and not as many vectors as classes.
    """
    if features != "independent" and len(vectors) != classes:
        raise InputError(f"features of own tokens need one vector a class: {classes}, not {len(vectors)}")
    spread = np.sqrt((vectors**2).sum(axis=1).mean())
    theta = centred(rng.normal(size=(vectors.shape[1], classes)) / spread)
    likely = probabilities(vectors, theta)
    if features == "independent":
        frequency = 1 / np.arange(1, len(vectors) + 1)
        words = rng.choice(len(vectors), size=(sentences, positions), p=frequency / frequency.sum())
        return WordProblem(vectors, theta, words, _drawn(likely, words, rng))
    words = np.empty((sentences, positions + 1), dtype=np.int64)
    words[:, 0] = rng.integers(classes, size=sentences)
    for position in range(positions):
        words[:, position + 1] = _drawn(likely, words[:, position], rng)
    tokens = words[:, 1:] if features == "own tokens" else _drawn(likely, words[:, :-1], rng)
    return WordProblem(vectors, theta, words[:, :-1], tokens)


def _drawn(likely: np.ndarray, words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A token after each word: integers of the words' shape."""
    sums = likely.cumsum(axis=1)[words]
    return np.minimum((rng.uniform(size=(*words.shape, 1)) > sums).sum(axis=-1), likely.shape[1] - 1)
