"""Reading, tokenising and checking everything that a run reads, before a model computes anything; and what to tell."""

from __future__ import annotations

from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
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

    Raises:
        InputError: as `check_rows`; or a corpus has no token to learn from.
    """
    corpora, settings = [(config, corpus.key)], ["corpus"]
    if target is not None:
        corpora.append((target_config(config), target.key))
        settings.append("target")
    if evaluated and config.evaluation.corpus is not None:
        corpora.append((evaluated_config(config), read_evaluated(store, config).key))
        settings.append("evaluation.corpus")
    counts = check_rows(store, config, corpora, on_progress)
    most = most_tokens(prepare_tokenizer(store, config.model), config.model)
    for setting, found in zip(settings, counts, strict=False):
        if not found.tokens:
            raise InputError(_nothing_to_learn(setting, found, most))
    lines = [*reading_in_words(corpus.facts), *tokens_in_words(counts[0], most, config.corpus.example == "prompt")]
    return lines if len(counts) == len(corpora) else [*lines, *_trained_in_words(counts[len(corpora)])]


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


def tokens_in_words(counts: TokenCounts, most: int, prompts: bool = False) -> list[str]:
    """What tokenising found in the pool.

    Args:
        counts: of the pool.
        most: tokens that the model takes.
        prompts: whether its rows are prompts without answers.
    """
    what = "prompt tokens" if prompts else "tokens to learn from"
    lines = [f"{counts.tokens:,} {what} in {counts.rows:,} {_rows(counts.rows)}"]
    if counts.cut:
        line = f"{counts.cut:,} {_rows(counts.cut)} cut at {most:,} tokens"
        if counts.lost:
            line += f"; {counts.lost:,} of them lost every token to learn from and cannot be chosen"
        lines.append(line)
    others = counts.without_loss - counts.lost - counts.bad
    if others:
        lines.append(f"{others:,} {_rows(others)} without a token to learn from cannot be chosen")
    if bad := counts.bad + counts.held_out_bad:
        held_out = f" ({counts.held_out_bad:,} held out)" if counts.held_out_bad else ""
        lines += [f"{bad:,} {_rows(bad)} cannot be tokenised and were skipped{held_out}:", *counts.bad_rows]
    lines += [
        f"{rows:,} {_rows(rows)} with {feature}, which the chat template leaves out: no model will see it"
        for feature, rows in counts.dropped.items()
    ]
    if counts.prints_date:
        lines.append(f"The chat template prints the date: it is rendered as {FIXED_DATE}, whatever the day")
    return lines


def _trained_in_words(counts: TokenCounts) -> list[str]:
    """Which rows of the pool may be chosen, but leave the model that is fine-tuned nothing to learn."""
    if not counts.without_loss:
        return []
    rows = f"{counts.without_loss:,} {_rows(counts.without_loss)}"
    reasons = [f"{counts.lost:,} cut"] if counts.lost else []
    reasons += [f"{counts.bad:,} cannot be tokenised"] if counts.bad else []
    why = f" ({', '.join(reasons)})" if reasons else ""
    return [f"{rows} without a token to learn from for finetune.model{why}: not trained on, even if chosen"]


def _nothing_to_learn(setting: str, counts: TokenCounts, most: int) -> str:
    """The error for a corpus that leaves nothing to choose from, or to measure on."""
    begin = f"{setting} has no token to learn from in its {counts.rows:,} {_rows(counts.rows)}"
    if counts.lost:
        return (
            f"{begin}: {counts.lost:,} lost every such token when they were cut at {most:,} tokens; raise "
            "model.max_tokens, take a model with a longer context, or shorten the prompts"
        )
    if counts.bad:
        return f"{begin}: {counts.bad:,} cannot be tokenised, first: {counts.bad_rows[0]}"
    return f"{begin}; check its field names, and whether a row is longer than one token"


def _rows(number: int) -> str:
    return "row" if number == 1 else "rows"
