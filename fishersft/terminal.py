"""What the commands print: progress bars, tables and paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fishersft.config.compare import CompareConfig
    from fishersft.numerics import Selection
    from fishersft.reporting.summary import ChosenRow, LossPreview
    from fishersft.steps.outcome import OnProgress, Outcome, RunResult

console = Console()


def progress_bars() -> Progress:
    """Where `bar` shows its bars; a context."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console)


def bar(progress: Progress, what: str) -> OnProgress:
    """A bar that appears at the first call, so that work found in the store shows none."""
    bars: list[Any] = []

    def update(done: int, total: int, note: str = "") -> None:
        if not bars:
            bars.append(progress.add_task(what, total=total, note=note))
        progress.update(bars[0], completed=done, total=total, note=note)

    return update


def print_outcomes(outcomes: list[Outcome]) -> None:
    """Of each kind of artifact, how many were made and how many found in the store."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        made = [outcome.seconds for outcome in of_kind if not outcome.hit]
        said = [f"{len(made):,} made in {sum(made):,.1f} s"] if made else []
        said += [f"{len(of_kind) - len(made):,} found in the store"] if len(made) < len(of_kind) else []
        table.add_row(kind, ", ".join(said))
    console.print(table, highlight=False)


def print_picks(selection: Selection) -> None:
    """The first picks of a selection of token blocks."""
    unit = "variance less" if selection.criterion == "v-optimal" else "gain (nats)"
    table = Table("rank", "block", unit, "tokens", title="The first picks")
    for rank, (index, gain, tokens) in enumerate(
        zip(selection.indices[:10], selection.gains, selection.tokens, strict=False), start=1
    ):
        table.add_row(str(rank), str(index), f"{gain:.4g}", str(tokens))
    console.print(table)


def print_examples(rows: Sequence[ChosenRow]) -> None:
    """The first examples of a selection, a line each."""
    from fishersft.reporting.text import visible

    table = Table("rank", "tokens", "gain (nats)", "example", box=SIMPLE)
    for row in rows:
        text = Text(visible(" ".join(row.text.split())), no_wrap=True, overflow="ellipsis")
        table.add_row(str(row.rank), f"{row.tokens:,}", f"{row.gain:.4g}", text)
    console.print(table)


def print_selection(facts: dict[str, Any], of: int | None = None) -> None:
    """What was chosen, and what is proven of it; `of` is how many examples there were to choose from."""
    from fishersft.steps.choosing import embeddings_in_words, proof_sentence

    named = {"v-optimal": "reduction of the variance", "gradient-matching": "gradient matching"}
    chosen = named.get(facts["criterion"], facts["rule"])
    pool = "" if of is None else f" of {of:,}"
    console.print(
        f"[bold]Selected {facts['sentences']:,}{pool} examples, {facts['tokens']:,} tokens[/], by {chosen}: "
        f"information gain {facts['information_gain']:,.2f} nats"
    )
    if "mismatch" in facts:
        console.print(
            f"Their mean gradient is {facts['mismatch']:.2g} times as far from the one aimed at as that of a random "
            "selection (squared distance)"
        )
    if "variance" in facts:
        console.print(
            f"Mean prediction variance on the target: {facts['variance_before']:.4g} before, {facts['variance']:.4g} "
            "after"
        )
    proof = proof_sentence(facts)
    console.print(proof[0].upper() + proof[1:], highlight=False)
    if facts["projection_loss_nats"] is not None:
        console.print(f"Choosing in fewer dimensions overlooked at most {facts['projection_loss_nats']:.4g} nats of it")
    if "embedded_in" in facts:
        console.print(embeddings_in_words(facts).capitalize())
    if facts["stopped"]:
        console.print("[yellow]Stopped before the budget was spent: no sentence adds as much as asked for.[/]")
    if facts["exhausted"]:
        console.print("[yellow]The budget covers every example that has a token to learn from.[/]")


def print_lines(lines: list[str]) -> None:
    """What was found, a line each; nothing in them is markup."""
    for line in lines:
        console.print(escape(line), highlight=False)


def print_preview(preview: LossPreview) -> None:
    """An example as the model sees it: in colour what the loss counts, grey the rest."""
    from fishersft.reporting.text import visible

    text = Text()
    for piece, counted in preview.pieces:
        text.append(visible(piece), style="bold green" if counted else "bright_black")
    if preview.not_shown:
        text.append(f" … {preview.not_shown:,} more tokens", style="italic")
    cut = ", cut to what the model takes" if preview.truncated else ""
    counts = f"{preview.loss_tokens:,} of {preview.tokens:,} tokens count" if preview.tokens else "cannot be tokenised"
    title = f"{preview.source}:{preview.row}, {counts}{cut}"
    console.print(Panel(text, title=escape(visible(title)), title_align="left"))


def print_path(what: str, path: str) -> None:
    """A line that names where something is, never wrapped."""
    typer.echo(f"{what + ':':8} {path}")


def print_made(result: RunResult) -> None:
    """How much of a run was there already."""
    console.print(f"{len(result.steps)} artifacts: {result.made} made, {len(result.steps) - result.made} found")


def print_comparison(settings: CompareConfig, result: RunResult) -> None:
    """A comparison's tables, its verdict and warnings, and where it is."""
    from fishersft.reporting.comparison_sheets import duels, summary, verdicts
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps.comparing import load_comparison
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder

    comparison = load_comparison(open_store(settings.store), result.report)
    for sheet in (summary(comparison), verdicts(comparison, "sentences"), *duels(comparison)):
        if sheet.rows:
            console.print(sheet_table(sheet))
    console.print(f"[bold]{escape(comparison.headline)}[/]", highlight=False)
    for warning in comparison.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}")
    print_made(result)
    print_path("comparison", f"{output_folder(settings, 'comparison')}/index.html")
