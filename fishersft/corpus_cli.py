"""`fishersft corpus`: what a corpus holds and what a model would be trained on, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fishersft import terminal
from fishersft.config.files import load_run

if TYPE_CHECKING:
    from fishersft.steps.outcome import Outcome
    from fishersft.steps.tokens import TokenCounts


def corpus(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Data files or a folder, such as pool.jsonl; or a CONFIG.yaml."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="Such as corpus.chat_template=qwen3; repeatable."),
    ] = None,
) -> None:
    """Check a corpus: its format, rows, tokens and duplicates, and three examples with the loss tokens in colour.

    Reads and tokenises every row, and needs no model weights.
    """
    from fishersft.steps.checking import reading_in_words, tokens_in_words
    from fishersft.steps.corpus import load_index, read_corpus
    from fishersft.steps.models import most_tokens, prepare_tokenizer
    from fishersft.steps.outcome import open_store
    from fishersft.steps.preview import previews
    from fishersft.steps.prompts import with_prompts_found
    from fishersft.steps.tokens import check_rows

    settings = with_prompts_found(load_run(sources, overrides or ()))
    store = open_store(settings.store)
    tokenizer = prepare_tokenizer(store, settings.model)
    with terminal.console.status("reading the corpus"):
        read = read_corpus(store, settings)
    with terminal.progress_bars() as progress:
        bar = terminal.bar(progress, "tokenising")
        counts = check_rows(store, settings, [(settings, read.key)], bar)[0]
    most = most_tokens(tokenizer, settings.model)
    terminal.print_lines(
        [*reading_in_words(read.facts), *tokens_in_words(counts, most, settings.corpus.example == "prompt")]
    )
    terminal.console.print(_table(read, counts, most))
    for preview in previews(store, settings, load_index(store, read.key)):
        terminal.print_preview(preview)


def _table(read: Outcome, counts: TokenCounts, most: int) -> Table:
    facts = read.facts
    table = Table(title="The corpus", title_justify="left")
    table.add_column("What")
    table.add_column("Rows", justify="right")
    rows = [
        ("read", facts["rows_read"]),
        ("blank, or nothing that the loss counts", facts["blank"]),
        ("not matching corpus.pattern", facts["unmatched"]),
        ("bad, skipped", facts["bad"]),
        ("exact duplicates", facts["duplicates"]),
        ("beyond corpus.max_rows", facts["beyond_max_rows"]),
        ("held out", facts["held_out"]),
        ("  cannot be tokenised", counts.held_out_bad),
        ("to choose from", facts["pool"]),
        (f"  cut at {most:,} tokens", counts.cut),
        ("  cannot be tokenised", counts.bad),
        ("  without a token to learn from", counts.without_loss - counts.bad),
    ]
    for what, number in rows:
        if number or what in ("read", "held out", "to choose from", "exact duplicates"):
            table.add_row(escape(what), f"{number:,}")
    return table
