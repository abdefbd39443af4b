"""Prompts without answers: finding out that a corpus holds nothing else, and refusing to train on them."""

from __future__ import annotations

from itertools import islice

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.config.files import checked_config
from fishersft.data.formats.detection import is_unanswered
from fishersft.data.formats.messages import ANSWER_FIRST
from fishersft.data.formats.values import filled
from fishersft.data.readers import ReadCounts, read_rows
from fishersft.errors import InputError

_LOOKED_AT = 100  # rows; a corpus of which the first ones are prompts is one of prompts


def with_prompts_found(config: CurateConfig) -> CurateConfig:
    """The settings, with `corpus.example: prompt` where that is auto and the first rows are prompts without answers.

    The defaults that go with prompts come along: a budget in examples, and none held out.

    Raises:
        InputError: the corpus cannot be read, or a setting does not go with prompts.
    """
    if config.corpus.example != "auto" or not _holds_prompts(config.corpus):
        return config
    values = config.model_dump(exclude_unset=True)
    values["corpus"]["example"] = "prompt"
    return checked_config(values, "the corpus holds prompts without answers", type(config))


def check_answered(config: CurateConfig) -> None:
    """Raises InputError where the rows are prompts without answers, by the config or the first of them."""
    if config.corpus.example == "prompt":
        raise InputError(f"corpus.example is prompt, and prompts without answers cannot be trained on; {ANSWER_FIRST}")
    if config.corpus.example == "auto" and _holds_prompts(config.corpus):
        raise InputError(f"{config.corpus.path} holds prompts without answers; {ANSWER_FIRST}")


def check_budget(config: CurateConfig) -> None:
    """Raises InputError where it is not said how many prompts to have answered: each costs, so there is no default."""
    if config.corpus.example == "prompt" and "budget" not in config.selection.model_fields_set:
        raise InputError(
            "the rows hold prompts without answers, and nothing says how many of them to choose; give a budget in "
            "examples, such as --budget 100"
        )


def _holds_prompts(corpus: CorpusConfig) -> bool:
    """Whether the first rows that say anything are prompts without answers, all of them."""
    found = False
    for row in islice(read_rows(corpus, ReadCounts()), _LOOKED_AT):
        if not any(map(filled, row.data.values())):
            continue
        try:
            found = is_unanswered(row, corpus)
        except InputError:  # a bad row, which the run itself reports or skips
            if corpus.on_bad_row == "skip":
                continue
            return False
        if not found:
            return False
    return found
