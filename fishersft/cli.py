"""The command line `fishersft`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fishersft.config import CurateConfig, SelectionConfig
from fishersft.config_files import commented_defaults, load_config
from fishersft.errors import InputError

if TYPE_CHECKING:
    from fishersft.steps.outcome import Outcome, RunResult

app = typer.Typer(
    help="Choose the fine-tuning examples that carry most information, and measure whether choosing helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="`fishersft config` prints one to start from.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="Such as selection.budget=500; repeatable."),
]


def main() -> None:
    """Runs the command line; bad input ends it with one message and status 2."""
    # Threads that spin while they wait make torch many times slower when anything else runs on the machine
    # (docs/log.md has the figures). Read when torch is first imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fishersft {version('fishersft')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def curate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Run the whole pipeline: embed, select, fine-tune, evaluate, report. What the store has is not done again."""
    settings = load_config(config, overrides or ())
    result = _flow("curate")(settings)
    _print_run(settings, result)


@app.command()
def embed(config: ConfigFile, overrides: Overrides = None) -> None:
    """Read the corpus and embed it, without Prefect."""
    settings = load_config(config, overrides or ())
    corpus, embeddings = _embed(settings)
    _print_outcomes([corpus, *embeddings])
    for outcome in embeddings:
        _print_path("blocks", f"{settings.store.rstrip('/')}/embeddings/{outcome.key}")


@app.command()
def select(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="CONFIG.yaml: embed first, write the curated dataset to its output. Or token blocks alone: a "
            ".safetensors or .npz file with values and offsets, or an embeddings artifact's folder.",
        ),
    ],
    budget: Annotated[int | None, typer.Option(help="How many sentences or tokens.")] = None,
    unit: Annotated[str | None, typer.Option(help="What the budget counts: sentences or tokens.")] = None,
    regularization: Annotated[float | None, typer.Option(help="lambda, the prior's weight.")] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="information, or fisher-weighted; with token blocks that needs `weights` beside them."),
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="lazy, or a slow reference: paper, naive.")] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="For token blocks: write the picks here (.parquet).")] = None,
) -> None:
    """Choose by information gain, without Prefect and without fine-tuning."""
    flags = {
        "budget": budget,
        "budget_unit": unit,
        "regularization": regularization,
        "criterion": criterion,
        "algorithm": algorithm,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    if source.suffix in (".yaml", ".yml"):
        if output:
            raise InputError("--output is for token blocks; with a config the dataset goes to its `output`")
        selection_settings = [f"selection.{name}={value}" for name, value in given.items()]
        _select_from_corpus(load_config(source, [*(overrides or ()), *selection_settings]))
    else:
        if overrides:
            raise InputError("--set is for a CONFIG.yaml; with token blocks use --budget, --unit and the like")
        _select_from_blocks(source, given, output)


@app.command()
def report(
    source: Annotated[Path, typer.Argument(metavar="REPORT.json", help="The report.json of a run, or its folder.")],
    output: Annotated[Path | None, typer.Option(help="Where the page and figures go; default: where it lies.")] = None,
) -> None:
    """Print a run's summary and write its page anew from its data."""
    from fishersft.reporting.summary import read_report
    from fishersft.reporting.tables import summary_table
    from fishersft.reporting.write import write_report

    data = source / "report.json" if source.is_dir() else source
    run_report = read_report(data)
    page = write_report(run_report, output or data.parent)
    console.print(summary_table(run_report))
    _print_path("report", str(page))


@app.command()
def config() -> None:
    """Print all settings with their defaults, commented, as YAML."""
    typer.echo(commented_defaults(), nl=False)


def _flow(name: str) -> Callable[[CurateConfig], RunResult]:
    """The flow of that name: flows register themselves as entry points, so the library does not import them."""
    for entry in entry_points(group="fishersft.flows", name=name):
        try:
            return entry.load()
        except ModuleNotFoundError as error:
            raise InputError(
                f"this command runs as a Prefect flow and needs {error.name}; pip install 'fishersft[flows]'"
            ) from error
    raise InputError(f"no flow {name!r} is installed; install fishersft with pip, not by copying its folder")


def _embed(settings: CurateConfig) -> tuple[Outcome, list[Outcome]]:
    from fishersft.models.source import find_model
    from fishersft.steps.corpus import read_corpus
    from fishersft.steps.embedding import embed_shard
    from fishersft.steps.outcome import open_store

    store = open_store(settings.store)
    find_model(settings.model)
    with console.status("reading the corpus"):
        corpus = read_corpus(store, settings)
    shards = corpus.facts["shard_keys"]
    with _progress() as progress:
        embeddings = [
            embed_shard(store, settings, shard, _bar(progress, f"embedding shard {number} of {len(shards)}"))
            for number, shard in enumerate(shards, start=1)
        ]
    return corpus, embeddings


def _select_from_corpus(settings: CurateConfig) -> None:
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder, publish_dataset
    from fishersft.steps.selection import select_informative

    corpus, embeddings = _embed(settings)
    store = open_store(settings.store)
    with _progress() as progress:
        selection = select_informative(
            store, settings, corpus.key, [outcome.key for outcome in embeddings], _bar(progress, "selecting")
        )
    publish_dataset(store, settings, corpus.key, selection.key)
    _print_outcomes([corpus, *embeddings, selection])
    _print_selection(selection.facts)
    _print_path("dataset", output_folder(settings, "dataset"))


def _select_from_blocks(source: Path, given: dict[str, Any], output: Path | None) -> None:
    from fishersft.data.block_files import read_blocks, read_weights, write_picks
    from fishersft.numerics import select as select_blocks

    if "budget" not in given:
        raise InputError("--budget is required with token blocks")
    if output and output.suffix != ".parquet":
        raise InputError(f"{output}: picks are written as .parquet")
    try:
        settings = SelectionConfig(**given)
    except ValidationError as error:
        faults = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise InputError(f"the selection's settings are wrong: {faults}") from error
    blocks = read_blocks(source)
    if settings.criterion == "fisher-weighted":
        blocks = blocks.weighted(read_weights(source))
    options = settings.model_dump(exclude={"criterion"})
    with _progress() as progress:
        selection = select_blocks(blocks, **options, on_progress=_bar(progress, "selecting"))
    table = Table("rank", "block", "gain (nats)", "tokens", title="The first picks")
    for rank, (index, gain, tokens) in enumerate(
        zip(selection.indices[:10], selection.gains, selection.tokens, strict=False), start=1
    ):
        table.add_row(str(rank), str(index), f"{gain:.4f}", str(tokens))
    console.print(table)
    _print_selection(
        {
            "sentences": len(selection),
            "tokens": int(selection.tokens.sum()),
            "rule": selection.rule,
            "information_gain": selection.information_gain,
            "certificate": str(selection.certificate),
            "exhausted": selection.exhausted,
        }
    )
    if output:
        write_picks(selection, output)
        _print_path("picks", str(output))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _bar(progress: Progress, what: str) -> Callable[[int, int], None]:
    """A bar that appears at the first call, so that work found in the store shows none."""
    bars: list[Any] = []

    def update(done: int, total: int) -> None:
        if not bars:
            bars.append(progress.add_task(what, total=total))
        progress.update(bars[0], completed=done, total=total)

    return update


def _print_outcomes(outcomes: list[Outcome]) -> None:
    table = Table("artifact", "key", "store", "seconds to make")
    for outcome in outcomes:
        table.add_row(outcome.kind, outcome.key[:12], "found" if outcome.hit else "made", f"{outcome.seconds:,.1f}")
    console.print(table)


def _print_selection(facts: dict[str, Any]) -> None:
    console.print(
        f"{facts['sentences']:,} sentences, {facts['tokens']:,} tokens, chosen by {facts['rule']}: information gain "
        f"{facts['information_gain']:,.2f} nats"
    )
    console.print(f"Proven: {facts['certificate']} within this budget")
    if facts["exhausted"]:
        console.print("[yellow]The budget covers everything there is: all of it was chosen.[/]")


def _print_run(settings: CurateConfig, result: RunResult) -> None:
    from fishersft.reporting.tables import summary_table
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder
    from fishersft.steps.reporting import load_report

    run_report = load_report(open_store(settings.store), result.report)
    console.print(summary_table(run_report))
    for warning in run_report.warnings:
        console.print(f"[yellow]note:[/] {escape(warning)}")
    console.print(f"{len(result.steps)} artifacts: {result.made} made, {len(result.steps) - result.made} found")
    _print_path("dataset", output_folder(settings, "dataset"))
    _print_path("model", output_folder(settings, "model"))
    _print_path("report", f"{output_folder(settings, 'report')}/index.html")


def _print_path(what: str, path: str) -> None:
    typer.echo(f"{what + ':':9}{path}")


if __name__ == "__main__":
    main()
