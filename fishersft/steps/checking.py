"""Reading, tokenising and checking everything that a run reads, before a model computes anything; and what to tell."""

from __future__ import annotations

from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.models.fixed_date import FIXED_DATE
from fishersft.steps.corpus import evaluated_config, target_config
from fishersft.steps.held_out import read_evaluated
from fishersft.steps.models import most_tokens, prepare_tokenizer
from fishersft.steps.outcome import OnProgress, Outcome
from fishersft.steps.tokens import TokenCounts, check_rows

_NAMED_FILES = 5


def check_corpora(
    store: Store,
    config: CurateConfig,
    corpus: Outcome,
    target: Outcome | None = None,
    evaluated: bool = False,
    on_progress: OnProgress | None = None,
) -> list[str]:
    """Tokenises every row that a run reads, see `check_rows`; what it found, a line each.

    Args:
        corpus, target: the corpus artifacts.
        evaluated: check `evaluation.corpus` too, if there is one.
        on_progress: called with (rows done, in all).
    """
    corpora = [(config, corpus.key)]
    if target is not None:
        corpora.append((target_config(config), target.key))
    if evaluated and config.evaluation.corpus is not None:
        corpora.append((evaluated_config(config), read_evaluated(store, config).key))
    counts = check_rows(store, config, corpora, on_progress)
    most = most_tokens(prepare_tokenizer(store, config.model), config.model)
    return [*reading_in_words(corpus.facts), *tokens_in_words(counts, most)]


def reading_in_words(facts: dict[str, Any]) -> list[str]:
    """How a corpus was read: its formats, and what was left out.

    Args:
        facts: of a corpus artifact, see `ReadCounts`.
    """
    lines = [f"{rows:,} {_rows(rows)} read as {what}" for what, rows in facts["formats"].items()]
    if facts["passed_over"]:
        names = ", ".join(facts["passed_over"][:_NAMED_FILES])
        more = len(facts["passed_over"]) - _NAMED_FILES
        lines.append(
            f"Not read, as their format is unknown: {names}" + (f" and {more:,} more files" if more > 0 else "")
        )
    if facts["bad"]:
        lines += [f"{facts['bad']:,} bad {_rows(facts['bad'])} skipped:", *facts["bad_rows"]]
    return lines


def tokens_in_words(counts: TokenCounts, most: int) -> list[str]:
    """What tokenising found in the pool.

    Args:
        counts: of the pool.
        most: tokens that the model takes.
    """
    lines = [f"{counts.tokens:,} tokens to learn from in {counts.rows:,} {_rows(counts.rows)}"]
    if counts.cut:
        line = f"{counts.cut:,} {_rows(counts.cut)} cut at {most:,} tokens"
        if counts.lost:
            line += f"; {counts.lost:,} of them lost every token to learn from and cannot be chosen"
        lines.append(line)
    others = counts.without_loss - counts.lost
    if others:
        lines.append(f"{others:,} {_rows(others)} without a token to learn from cannot be chosen")
    if counts.bad:
        lines += [f"{counts.bad:,} {_rows(counts.bad)} cannot be tokenised and were skipped:", *counts.bad_rows]
    lines += [
        f"{rows:,} {_rows(rows)} with {feature}, which the chat template leaves out: no model will see it"
        for feature, rows in counts.dropped.items()
    ]
    if counts.prints_date:
        lines.append(f"The chat template prints the date: it is rendered as {FIXED_DATE}, whatever the day")
    return lines


def _rows(number: int) -> str:
    return "row" if number == 1 else "rows"
