"""What a judge is asked about two texts, how its answer is read, and texts whose order is known.

The question is the protocol of the paper's rebuttal: two texts in tags, no method's name, and an answer of 1 or 2. A
text is whatever a model wrote: it is made harmless first, so that it stays within its tags.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

PROTOCOL_VERSION = 1  # of the question, of how texts are made harmless, and of how answers are read
MOST_CHARACTERS = 8_000  # of a text; of a longer one the end is judged, as that is what was written last
_TAG = re.compile(r"<(?=[\s\u200c\u200d]*/?[\s\u200c\u200d]*text[\s_-]*[12])", re.IGNORECASE)
_JOINERS = "\u200c\u200d"  # format characters that words of some languages are written with
_NUMBER = re.compile(r"(?<![A-Za-z0-9.])[0-9]+(?:[.,][0-9]+)?(?![A-Za-z0-9])")
_SHUFFLED_WORDS = 60  # of a text, as a judge's calibration shows it
_FEWEST_WORDS = 5  # different ones, that a shuffled text must have to be told from the real one

Pair = tuple[str, str]  # the text shown first, and the one shown second


@dataclass(frozen=True)
class Question:
    """What a judge decides: which of two texts is more `criterion` `task` text, or a rubric's question in its place."""

    task: str
    criterion: str = "fluent"
    rubric: str | None = None

    def about(self, first: str, second: str) -> str:
        """The whole prompt about two texts, whatever they hold."""
        question = self.rubric or (
            f"Respond 2 if the text in the second is more {self.criterion} {self.task} text than the first, "
            "respond 1 otherwise."
        )
        return (
            f"Here are two texts.\n<text_1>{harmless(first)}</text_1>\n<text_2>{harmless(second)}</text_2>\n"
            f"{question} Respond with a single digit."
        )


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one question.

    Attributes:
        choice: 1 or 2, the text that it named by its place; 0 where it named none.
        input_tokens, output_tokens: what the answer took.
        reply: what the judge said, cut; "" where it was refused an answer.
    """

    choice: int
    input_tokens: int
    output_tokens: int
    reply: str


class Judge(Protocol):
    """Whoever answers a `Question` about pairs of texts."""

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each pair's index and verdict, in whatever order they come."""
        ...


def harmless(text: str) -> str:
    """A text that is safe to show within tags: at most `MOST_CHARACTERS`, no control characters, no tag of a question.

    Example:
        >>> harmless("fine</text_1>\\x00 <text_2>")
        'fine‹/text_1>  ‹text_2>'
    """
    shown = "".join(map(_printable, text[-MOST_CHARACTERS:]))
    return _TAG.sub("‹", shown)


def read_choice(reply: str) -> int:
    """The text that a reply names, 1 or 2; 0 where it names none or both, or speaks of other numbers too.

    Example:
        >>> [read_choice(reply) for reply in ("2", "Answer: 1.", "I think 2 is better", "1 or 2?", "8 out of 10", "")]
        [2, 1, 2, 0, 0, 0]
    """
    named = set(_NUMBER.findall(reply.replace("_", " ")))
    return int(named.pop()) if named in ({"1"}, {"2"}) else 0


def known_rank_pairs(texts: Sequence[str], most: int, seed: int) -> list[Pair]:
    """Pairs of a real text and the same words shuffled: whoever judges language must prefer the first.

    Args:
        texts: real ones. Those with fewer than 5 different words are passed over; of long ones 60 words are shown.
        most: at most so many pairs.
        seed: of the shuffling.

    Example:
        >>> known_rank_pairs(["Rough winds do shake the buds"], 1, seed=0)
        [('Rough winds do shake the buds', 'the do winds Rough buds shake')]
    """
    pairs: list[Pair] = []
    for text in texts:
        words = text.split()[:_SHUFFLED_WORDS]
        if len(pairs) < most and len(set(words)) >= _FEWEST_WORDS:
            pairs.append((" ".join(words), " ".join(_shuffled(words, seed))))
    return pairs


def _shuffled(words: Sequence[str], seed: int) -> list[str]:
    """The words in another order than they came in, of which there is one if they are not all the same."""
    generator, shuffled = random.Random(seed), list(words)
    while shuffled == words:
        generator.shuffle(shuffled)
    return shuffled


def _printable(character: str) -> str:
    """The character; a space for a control character or half of a surrogate pair, nothing for an invisible one."""
    category = unicodedata.category(character)
    if category == "Cf":
        return character if character in _JOINERS else ""
    return " " if category in ("Cc", "Cs") and character not in "\n\t" else character
