"""`fishersft diagnose`: whether selecting is likely to pay for a pool and a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fishersft import terminal
from fishersft.config.files import load_run

if TYPE_CHECKING:
    from fishersft.steps.diagnosing import Diagnosis


def diagnose(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Data files or a folder, such as pool.jsonl; or a CONFIG.yaml."),
    ],
    target: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A sample of what the model will be used on.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="Such as model.path=gpt2; repeatable."),
    ] = None,
) -> None:
    """Forecast whether selecting will pay: near copies, effective rank, and how much of the pool is like the target.

    Embeds at most 2,000 rows, drawn at random. The forecast rests on the experiments in docs/results.md.
    """
    from fishersft.steps import diagnosing
    from fishersft.steps.outcome import open_store
    from fishersft.steps.prompts import with_prompts_found

    changes = [*([f"target.path={target}"] if target else []), *(overrides or ())]
    settings = with_prompts_found(load_run(sources, changes))
    with terminal.progress_bars() as progress:
        bar = terminal.bar(progress, "embedding shards")
        found = diagnosing.diagnose(open_store(settings.store), settings, bar)
    terminal.console.print(_table(found))
    terminal.print_lines(found.forecast)


def _table(found: Diagnosis) -> Table:
    table = Table(title="Diagnosis", title_justify="left")
    table.add_column("What")
    table.add_column("Found", justify="right")
    rows = [
        ("examples looked at", f"{found.sampled:,} of {found.rows:,}"),
        ("near copies", f"{found.near_copies:.0%}"),
        ("effective rank of token embeddings", f"{found.rank:.0f} of {found.dim:,}"),
    ]
    if found.like_target is not None:
        rows += [
            ("target", f"{found.target_examples:,} examples, {found.target_tokens:,} tokens"),
            ("pool like the target", f"about {found.like_target:.0%}"),
        ]
    for row in rows:
        table.add_row(*row)
    return table
