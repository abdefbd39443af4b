"""The command line `fishersft`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fishersft import terminal
from fishersft.config import CurateConfig
from fishersft.config.files import commented_defaults, load_config, load_run, load_settings
from fishersft.corpus_cli import corpus
from fishersft.deploy_cli import deploy, notify
from fishersft.diagnose_cli import diagnose
from fishersft.errors import InputError
from fishersft.judge_cli import judge
from fishersft.plug_ins import load_plug_in
from fishersft.reproduce_cli import reproduce_app
from fishersft.store_cli import store_app

if TYPE_CHECKING:
    from fishersft.data.runs import Run
    from fishersft.steps.outcome import Outcome, RunResult

app = typer.Typer(
    help="Choose the fine-tuning examples that carry most information, and measure whether choosing helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(store_app, name="store")
app.add_typer(reproduce_app, name="reproduce")
app.command()(corpus)
app.command()(diagnose)
app.command()(judge)
app.command()(deploy)
app.command()(notify)
CONDITIONS = "Conditions"
_SHOWN_PICKS = 5

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="`fishersft config` prints one to start from.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="Such as selection.budget=20k; repeatable."),
]


def main() -> None:
    """Runs the command line; bad input ends it with one message and status 2."""
    # Threads that spin while they wait make torch many times slower when anything else runs on the machine
    # (docs/log.md has the figures). Read when torch is first imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Prefect's own server, which a run starts where none is configured, needs longer than 20 s on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
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
def compare(config: ConfigFile, overrides: Overrides = None) -> None:
    """Compare methods of choosing with chance, over budgets and seeds: at equal tokens and steps, and equal sentences.

    `fishersft config --comparison` prints a CONFIG.yaml to start from.
    """
    from fishersft.config.compare import CompareConfig

    settings = load_settings(config, overrides or (), CompareConfig)
    result = _flow("compare")(settings)
    terminal.print_comparison(settings, result)


@app.command()
def embed(config: ConfigFile, overrides: Overrides = None) -> None:
    """Read the corpus and embed it, without Prefect."""
    from fishersft.data.runs import recorded_run
    from fishersft.steps.outcome import open_store
    from fishersft.steps.prompts import with_prompts_found

    settings = with_prompts_found(load_config(config, overrides or ()))
    terminal.print_lines([settings.criterion_in_words()])
    settings = settings.resolved()
    with recorded_run(open_store(settings.store), f"embed-{settings.name}") as run:
        corpus, _ = _read(settings)
        embeddings = _embed_shards(settings, corpus, "shard")
        run.note(corpus=corpus.key)
    terminal.print_outcomes([corpus, *embeddings])
    for outcome in embeddings:
        terminal.print_path("blocks", f"{settings.store.rstrip('/')}/embeddings/{outcome.key}")


@app.command()
def select(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="What to choose from: data files or a folder, such as pool.jsonl; or a CONFIG.yaml; or token blocks: "
            ".safetensors or .npz files with values and offsets, or embeddings artifacts' folders, whose blocks are "
            "numbered from 0, on from one file to the next.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option(help="A sample of what the model will be used on: choose towards it.", rich_help_panel="What"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model to choose for: a hub id, a folder or a GGUF file.", rich_help_panel="What"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the curated dataset. Token blocks: the picks, as .parquet; a run that was cut short "
            "resumes from what lies beside it.",
            rich_help_panel="What",
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="How much, such as 20k or '500 examples'.", rich_help_panel="Budget")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="What a bare --budget counts: tokens or sentences.", rich_help_panel="Budget"),
    ] = None,
    stop_below: Annotated[
        float | None,
        typer.Option(help="End at the first pick that would add less (nats, or variance).", rich_help_panel="Budget"),
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="auto, which says what it chose and why; information; fisher-weighted, which with token blocks needs "
            "`weights` beside them; v-optimal; not with token blocks gradient-matching.",
            rich_help_panel="Criterion",
        ),
    ] = None,
    regularization: Annotated[
        float | None, typer.Option(help="lambda, the prior's weight.", rich_help_panel="Criterion")
    ] = None,
    regularization_unit: Annotated[
        str | None, typer.Option(help="absolute, or 'mean token energy'.", rich_help_panel="Criterion")
    ] = None,
    project_to: Annotated[
        int | None, typer.Option(help="Choose in so many principal directions.", rich_help_panel="Criterion")
    ] = None,
    already_selected: Annotated[
        Path | None,
        typer.Option(
            help="Blocks: token blocks that are known already; gains add to them.", rich_help_panel=CONDITIONS
        ),
    ] = None,
    include: Annotated[
        str | None, typer.Option(help="Blocks: chosen in any case, such as 3,17.", rich_help_panel=CONDITIONS)
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Blocks: never chosen, such as 3,17.", rich_help_panel=CONDITIONS)
    ] = None,
    exclude_file: Annotated[
        Path | None,
        typer.Option(help="Blocks: never chosen, the picks that --output wrote.", rich_help_panel=CONDITIONS),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(help="How it is proven: prefix, or frank-wolfe, tighter but slower.", rich_help_panel="Proof"),
    ] = None,
    certificate_seconds: Annotated[
        float | None, typer.Option(help="At most so long for frank-wolfe.", rich_help_panel="Proof")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Blocks: leave them on disk and hold at most so much of them, such as 4G (.safetensors only).",
            rich_help_panel="Run",
        ),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="lazy, or a slow reference: paper, naive.", rich_help_panel="Run")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Select examples under a budget and write them as a dataset, without fine-tuning.

    `fishersft select pool.jsonl --target mine.jsonl --budget 20k` needs no configuration. Where rows are prompts
    without answers, `fishersft select prompts.jsonl --budget 100` chooses a hundred to have answered. Options that
    begin with "Blocks:" are for token blocks.
    """
    flags = {
        "budget_unit": unit,
        "budget": budget,
        "stop_below": stop_below,
        "criterion": criterion,
        "regularization": regularization,
        "regularization_unit": regularization_unit,
        "project_to": project_to,
        "certificate": certificate,
        "certificate_seconds": certificate_seconds,
        "algorithm": algorithm,
    }
    from fishersft.data.block_files import holds_blocks

    given = {name: value for name, value in flags.items() if value is not None}
    if not all(holds_blocks(source) for source in sources):
        for_blocks = {
            "already-selected": already_selected,
            "include": include,
            "exclude": exclude,
            "exclude-file": exclude_file,
            "memory": memory,
        }
        for name, value in for_blocks.items():
            if value is not None:
                raise InputError(f"--{name} is for token blocks; with a corpus use --set selection.SETTING=VALUE")
        places = {"target.path": target, "model.path": model, "output": output}
        asked = {**places, **{f"selection.{name}": value for name, value in given.items()}}
        settings = [f"{name}={json.dumps(str(value))}" for name, value in asked.items() if value is not None]
        _select_from_corpus(load_run(sources, [*(overrides or ()), *settings]))
        return
    if overrides or model:
        raise InputError("--set and --model are for a corpus; with token blocks use --budget, --unit and the like")
    from fishersft.block_selection import BlockRun, select_from_blocks

    select_from_blocks(
        BlockRun(sources, given, target, already_selected, include or "", exclude or "", exclude_file, memory, output)
    )


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
    terminal.console.print(summary_table(run_report))
    terminal.print_path("report", str(page))


@app.command()
def config(
    comparison: Annotated[bool, typer.Option("--comparison", help="Those of `fishersft compare`.")] = False,
) -> None:
    """Print all settings with their defaults, commented, as YAML."""
    from fishersft.config.compare import CompareConfig

    typer.echo(commented_defaults(CompareConfig if comparison else CurateConfig), nl=False)


def _flow(name: str) -> Callable[[Any], RunResult]:
    flow: Callable[[Any], RunResult] = load_plug_in("fishersft.flows", name)
    return flow


def _read(settings: CurateConfig) -> tuple[Outcome, Outcome | None]:
    """The corpus and the target, if there is one, once every row of both has been checked."""
    from fishersft.models.vocabulary import check_model
    from fishersft.steps.checking import check_corpora
    from fishersft.steps.corpus import read_corpus, read_target
    from fishersft.steps.outcome import open_store

    check_model(settings.model)
    store = open_store(settings.store)
    with terminal.console.status("reading the corpus"):
        corpus = read_corpus(store, settings)
        target = None if settings.target is None else read_target(store, settings)
    with terminal.progress_bars() as progress:
        found = check_corpora(store, settings, corpus, target, on_progress=terminal.bar(progress, "checking rows"))
    terminal.print_lines(found)
    return corpus, target


def _embed_shards(settings: CurateConfig, corpus: Outcome, what: str) -> list[Outcome]:
    from fishersft.steps.embedding import embed_shard

    return _of_every_shard(embed_shard, settings, corpus, f"embedding {what}")


def _sketch_shards(settings: CurateConfig, corpus: Outcome, what: str) -> list[Outcome]:
    """The gradients of all layers, where these are matched; none otherwise."""
    from fishersft.steps.sketching import sketch_shard

    if not settings.matches_all_layers:
        return []
    return _of_every_shard(sketch_shard, settings, corpus, f"sketching gradients of {what}")


def _of_every_shard(step: Callable[..., Outcome], settings: CurateConfig, corpus: Outcome, doing: str) -> list[Outcome]:
    from fishersft.steps.embedding import THREADS_A_DEVICE
    from fishersft.steps.models import device_of, devices_of
    from fishersft.steps.outcome import open_store

    store = open_store(settings.store)
    shards = corpus.facts["shard_keys"]
    workers = THREADS_A_DEVICE * len(devices_of(device_of(settings)))
    with terminal.progress_bars() as progress, ThreadPoolExecutor(workers) as threads:

        def do_one(number: int, shard: str) -> Outcome:
            bar = terminal.bar(progress, f"{doing} {number} of {len(shards)}")
            return step(store, settings, shard, bar)

        return list(threads.map(do_one, range(1, len(shards) + 1), shards))


def _select_from_corpus(settings: CurateConfig) -> None:
    from fishersft.data.runs import last_finished, recorded_run
    from fishersft.steps.conditions import begin_selection
    from fishersft.steps.outcome import open_store
    from fishersft.steps.prompts import check_budget, with_prompts_found

    settings = with_prompts_found(settings)
    check_budget(settings)
    terminal.print_lines([settings.criterion_in_words()])
    settings = settings.resolved()
    store, name = open_store(settings.store), f"select-{settings.name}"
    previous = last_finished(store, name)
    with recorded_run(store, name) as run:
        _embed_and_select(begin_selection(settings, previous, run), run)


def _embed_and_select(settings: CurateConfig, run: Run) -> None:
    from fishersft.steps.corpus import load_index, target_config
    from fishersft.steps.outcome import open_store
    from fishersft.steps.picks import load_picks, picked_examples
    from fishersft.steps.publishing import output_folder, publish_dataset
    from fishersft.steps.report_parts import chosen
    from fishersft.steps.selection import select_informative

    corpus, target_corpus = _read(settings)
    embeddings = _embed_shards(settings, corpus, "shard")
    gradients = _sketch_shards(settings, corpus, "shard")
    made, target = [corpus, *embeddings, *gradients], list[str]()
    if target_corpus is not None:
        read_target = _sketch_shards if settings.matches_all_layers else _embed_shards
        of_target = read_target(target_config(settings), target_corpus, "target shard")
        made += [target_corpus, *of_target]
        target = [outcome.key for outcome in of_target]
    store = open_store(settings.store)
    keys = [outcome.key for outcome in embeddings]
    with terminal.progress_bars() as progress:
        on_progress = terminal.bar(progress, "selecting")
        sketches = [outcome.key for outcome in gradients]
        selection = select_informative(store, settings, corpus.key, keys, target, on_progress, gradients=sketches)
    run.note(corpus=corpus.key, selection=selection.key)
    publish_dataset(store, settings, corpus.key, selection.key)
    picks = load_picks(store, selection.key)
    examples = picked_examples(store, settings.corpus, picks.first(_SHOWN_PICKS))
    terminal.print_selection(selection.facts, of=corpus.facts["pool"])
    terminal.print_examples(chosen(load_index(store, corpus.key), picks, examples, _SHOWN_PICKS))
    terminal.print_outcomes([*made, selection])
    terminal.print_path("selection", selection.key)
    terminal.print_path("dataset", output_folder(settings, "dataset"))


def _print_run(settings: CurateConfig, result: RunResult) -> None:
    from fishersft.reporting.tables import summary_table
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder
    from fishersft.steps.reporting import load_report

    run_report = load_report(open_store(settings.store), result.report)
    terminal.console.print(summary_table(run_report))
    for warning in run_report.warnings:
        terminal.console.print(f"[yellow]note:[/] {escape(warning)}")
    terminal.print_made(result)
    terminal.print_path("dataset", output_folder(settings, "dataset"))
    terminal.print_path("model", output_folder(settings, "model"))
    terminal.print_path("report", f"{output_folder(settings, 'report')}/index.html")


if __name__ == "__main__":
    main()
