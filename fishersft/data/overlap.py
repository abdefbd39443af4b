"""Which held-out examples say the same as an example of the pool, by runs of words that both have."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fishersft.data.examples import Conversation, Example, Prompt, PromptCompletion, as_text, words_said

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = re.compile(r"['’]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word's hash loses bits


@dataclass(frozen=True)
class Overlap:
    """What held-out examples and the pool share.

    Attributes:
        held_out: (examples,), bool; which held-out examples overlap with the pool.
        pool: how many examples of the pool overlap with a held-out one.
    """

    held_out: np.ndarray
    pool: int


def find_overlap(held_out: Sequence[Example], pool: Iterable[Sequence[Example]], words: int) -> Overlap:
    """Finds the held-out examples that share a run of words with an example of the pool.

    What the loss counts is compared: the text, the completion, the assistant's turns; a prompt that many examples have
    is no overlap. Words are compared in lower case and without punctuation, which alone ends words in languages that
    are written without spaces. An example in which the loss counts fewer words than a run has is compared as a whole,
    prompt included, with others as short.

    Args:
        held_out: kept in memory, about 12 bytes a run of words.
        pool: examples a part at a time, each read once; a part is in memory at once.
        words: how many words in a row count as overlap, >= 1.

    Cost: one hash a run of words; a run is looked up by bisection. Runs are compared by 64-bit hashes: that any of
    10^9 runs of the pool is wrongly taken for one of 10^7 held-out ones has a probability under 0.001.
    Source: Brown et al. (2020), "Language Models are Few-Shot Learners", appendix C, with its default of 13 words.

    Example:
        >>> from fishersft.data.examples import TextExample
        >>> held_out = [TextExample("Rough winds do shake the buds"), TextExample("Shall I compare thee")]
        >>> find_overlap(held_out, [[TextExample("As rough winds do -- shake")]], words=4).held_out.tolist()
        [True, False]
    """
    hashes, owners = _hashed(held_out, words)
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    shared = np.zeros(len(hashes), dtype=bool)
    in_pool = 0
    for part in pool:
        looked_up, rows = _hashed(part, words)
        first = np.searchsorted(hashes, looked_up, side="left")
        after = np.searchsorted(hashes, looked_up, side="right")
        in_pool += len(np.unique(rows[after > first]))
        for begin, end in set(zip(first[after > first].tolist(), after[after > first].tolist(), strict=True)):
            shared[begin:end] = True
    overlapping = np.zeros(len(held_out), dtype=bool)
    overlapping[owners[shared]] = True
    return Overlap(overlapping, in_pool)


def _hashed(examples: Sequence[Example], words: int) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each run of words, uint64 (runs,), and the example it is of, int32 (runs,)."""
    pieces = [_runs(example, words) for example in examples]
    owners = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(piece) for piece in pieces])
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint64), owners


def _runs(example: Example, words: int) -> np.ndarray:
    """The hashes of an example's runs of words, uint64: one where it is compared as a whole, none without words."""
    counted = [word for text in _counted(example) for word in words_of(text)]
    if len(counted) < words:
        whole = [word for text in _all_texts(example) for word in words_of(text)]
        return np.array([_hash(" ".join(["whole:", *whole]))] if whole else [], dtype=np.uint64)
    hashed = np.array([_hash_of_word(word) for word in counted], dtype=np.uint64)
    runs = np.zeros(len(hashed) - words + 1, dtype=np.uint64)
    for place in range(words):  # a polynomial in the words' hashes, modulo 2^64
        runs = runs * _MULTIPLIER + hashed[place : place + len(runs)]
    return runs


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation: "Ay, my lord's" gives ay, my, lords."""
    return _WORD.findall(_APOSTROPHES.sub("", text.lower()))


def _counted(example: Example) -> Iterator[str]:
    """The texts that the loss counts."""
    if isinstance(example, Conversation):
        for place, message in enumerate(example.messages[example.prompt_turns or 0 :], example.prompt_turns or 0):
            if message["role"] == "assistant" and place not in example.uncounted:
                yield from words_said(message)
    elif isinstance(example, PromptCompletion):
        yield example.completion
    elif not isinstance(example, Prompt):  # of which the loss counts nothing
        yield example.text


def _all_texts(example: Example) -> Iterator[str]:
    if isinstance(example, Conversation):
        yield from (text for message in example.messages for text in words_said(message))
    elif isinstance(example, PromptCompletion):
        yield from (example.prompt, example.completion)
    else:
        yield as_text(example)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


_hash_of_word = lru_cache(maxsize=1 << 18)(_hash)
