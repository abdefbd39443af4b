"""`fishersft reproduce`: the paper's experiments, one command each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fishersft import terminal
from fishersft.config.compare import CompareConfig
from fishersft.config.files import Settings, load_settings
from fishersft.experiments.mixed_pools import MixedPool
from fishersft.plug_ins import load_plug_in

if TYPE_CHECKING:
    from fishersft.reporting.comparison import Comparison
    from fishersft.reporting.sheets import Sheet

reproduce_app = typer.Typer(
    help="Reproduce the paper's experiments, and answer its reviewers' questions: each command prints its tables, and "
    "leaves a page in the output folder.",
    no_args_is_help=True,
)
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="Such as repeats=5 or output=results; repeatable."),
]
Corpora = Annotated[Path, typer.Option(help="A folder for the texts of the pools, targets and outcomes.")]
Replicates = Annotated[int, typer.Option(min=2, help="How often everything is drawn anew.")]
_SHORT = (
    "corpus.max_rows=1100",
    "model.max_tokens=32",
    "finetune.epochs=1",
    "finetune.learning_rate=2.0e-4",
    "evaluation.sentences=100",
    "evaluation.prompts=8",
    "budgets=[100]",
    "repeats=3",
)
_PARAGRAPHS = "corpus.pattern=(?P<text>(?s:.{40,}))"  # what is shorter is a heading
_SHERLOCK = (
    _PARAGRAPHS,
    "corpus.max_rows=null",
    "budgets=[100, 200, 500, 1000, 2000]",  # it has not 5,000 paragraphs
    "evaluation.judging.task=Sherlock Holmes",
)
_INSTRUCTIONS = (
    "corpus.format=jsonl",
    "corpus.pattern=null",
    "corpus.example=prompt-completion",
    "corpus.held_out_fraction=0.3",  # there are only 175
    "model.max_tokens=256",
)


@reproduce_app.command()
def synthetic(overrides: Overrides = None) -> None:
    """Tokens from a softmax model: errors by budget, dimensions and classes; some four minutes."""
    _simulate("synthetic", overrides)


@reproduce_app.command()
def convergence(overrides: Overrides = None) -> None:
    """How fast the error falls with the budget, as the slope of their logarithms."""
    _simulate("convergence", overrides)


@reproduce_app.command()
def word_embeddings(overrides: Overrides = None) -> None:
    """The same with pretrained word vectors: of SmolLM2, or --set vectors=glove.txt."""
    _simulate("word-embeddings", overrides)


@reproduce_app.command()
def own_tokens(
    redrawn: Annotated[bool, typer.Option("--redrawn", help="The control: tokens drawn anew after the words.")] = False,
    overrides: Overrides = None,
) -> None:
    """Features of a sentence's own tokens, as in a language model: who chooses by them chooses by the outcomes."""
    _simulate("own-tokens-redrawn" if redrawn else "own-tokens", overrides)


@reproduce_app.command()
def speed(overrides: Overrides = None) -> None:
    """Algorithms 1 and 2 as published against each other and the engine, on a language model's embeddings."""
    from fishersft.config.speed import SpeedConfig
    from fishersft.reporting.speed import speed_sheet
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps.publishing import output_folder

    settings = _preset("speed", overrides, SpeedConfig)
    found = load_plug_in("fishersft.flows", "speed")(settings)
    terminal.console.print(sheet_table(speed_sheet(found)))
    terminal.print_path("table", f"{output_folder(settings, 'speed')}/speed.md")


@reproduce_app.command()
def language_model(
    sherlock: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sherlock Holmes, paragraphs between blank lines, instead of Shakespeare."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="For two cores and half an hour: 100 sentences.")] = False,
    overrides: Overrides = None,
) -> None:
    """D-optimal against every baseline: win rates laid out as in the paper, held-out likelihoods beside them.

    The whole is for a GPU. Another model by --set model.path=gpt2, a stronger judge by --set evaluation.judging.judges.
    """
    name = "language-model" + ("-sherlock" if sherlock else "") + ("-short" if short else "")
    changes = _named(name)
    if sherlock:
        changes += [*_SHERLOCK, f"corpus.path={sherlock}"]
    if short:
        changes += _SHORT
    _compare("language-model", [*changes, *(overrides or ())])


@reproduce_app.command()
def criterion(
    sherlock: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sherlock Holmes, paragraphs between blank lines.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Tasks in the format of Self-Instruct's seed_tasks.jsonl.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Does gradient matching beat a uniform choice? On Shakespeare, where it was picked, or where it was not."""
    if sherlock and instructions:
        raise typer.BadParameter("--sherlock and --instructions are two corpora; give one of them")
    changes = list[str]()
    if sherlock:
        changes = [*_named("criterion-sherlock"), f"corpus.path={sherlock}", _PARAGRAPHS]
    elif instructions:
        from fishersft.steps.instructions import write_prompts_and_completions

        written = Path("corpora/instructions.jsonl").absolute()
        write_prompts_and_completions(instructions, written)
        changes = [*_named("criterion-instructions"), f"corpus.path={written}", *_INSTRUCTIONS]
    _compare("criterion", [*changes, *(overrides or ())])


@reproduce_app.command()
def perplexity(overrides: Overrides = None) -> None:
    """What perplexity adds: Fisher weights; the easiest, middle or hardest sentences. Half an hour on two cores."""
    _compare("perplexity", overrides or ())


@reproduce_app.command()
def weak_to_strong(
    model: Annotated[str, typer.Argument(help="The model to train: a folder, a GGUF file or a hub name.")],
    lora: Annotated[bool, typer.Option("--lora", help="Train LoRA adapters in place of all weights.")] = False,
    overrides: Overrides = None,
) -> None:
    """Does a weaker model choose well for a stronger one? SmolLM2 chooses, MODEL is trained."""
    method = ["finetune.method=lora"] if lora else []
    _compare("weak-to-strong", [f"finetune.model.path={model}", *method, *(overrides or ())])


@reproduce_app.command()
def robustness(
    pool: Annotated[MixedPool, typer.Option(help="What half of the pool is; clean: the other half alone.")] = "noise",
    corpora: Annotated[
        Path, typer.Option(help="A folder for the texts of the pool, the target and the outcome.")
    ] = Path("corpora"),
    overrides: Overrides = None,
) -> None:
    """Choosing in a pool of which half is noise, near copies or code; under 20 minutes on two cores.

    The clean pool is the control: a uniform choice of it is what a perfect filter would leave.
    """
    from fishersft.experiments.domains import PYTHON_CODE, texts_of
    from fishersft.steps.mixed_pools import write_half_good

    settings = _preset("robustness", overrides, CompareConfig)
    folder = corpora.absolute() / pool
    others = texts_of(PYTHON_CODE) if pool == "off-domain" else []
    write_half_good(pool, texts_of(settings.corpus), others, folder, settings.seed)
    changed = settings.model_dump()
    changed |= {"name": f"{settings.name}-{pool}", "output": f"{settings.output}/{pool}"}
    changed["corpus"] |= {"path": str(folder / "pool.jsonl"), "format": "jsonl", "pattern": None}
    changed["target"] = {"path": str(folder / "target.jsonl")}
    changed["evaluation"]["corpus"] = {"path": str(folder / "held-out.jsonl")}
    _run(CompareConfig.model_validate(changed))


@reproduce_app.command()
def tiny_target(
    domain: Annotated[str, typer.Option(help="What the target is a sample of.")] = "shakespeare",
    domains: Annotated[
        Path | None, typer.Option(help="A folder of further domains, a NAME.txt each, with texts between blank lines.")
    ] = None,
    corpora: Corpora = Path("corpora"),
    replicates: Replicates = 10,
    overrides: Overrides = None,
) -> None:
    """25 texts to aim at in a pool of which a tenth is like them: gradient matching against its peers.

    Every replicate draws pool, target and held-out texts anew.
    """
    from fishersft.experiments.domains import domain_texts
    from fishersft.steps.mixed_pools import write_mixed_domains

    settings, texts = _preset("tiny-target", overrides, CompareConfig), domain_texts(domains)
    if domain not in texts:
        raise typer.BadParameter(f"{domain!r} is none of the domains: {', '.join(texts)}")
    others = [name for name in texts if name != domain]
    pool = {domain: 70, **{name: 630 // len(others) + (n < 630 % len(others)) for n, name in enumerate(others)}}

    def drawn(replicate: int) -> CompareConfig:
        folder = corpora.absolute() / f"tiny-target-{domain}" / str(replicate)
        write_mixed_domains(texts, pool, domain, 25, 100, folder, settings.seed + replicate)
        changed = _reading(settings, folder).model_dump()
        for method in changed["methods"]:
            method["keep"] = domain if method["method"] == "perfect-filter" else None
        return CompareConfig.model_validate(changed)

    _replicated(f"tiny-target-{domain}", drawn, replicates)


@reproduce_app.command()
def rare_skills(
    corpora: Corpora = Path("corpora"),
    replicates: Replicates = 10,
    overrides: Overrides = None,
) -> None:
    """Twelve short-answer tasks, most of them rare in the pool: gradient matching towards two examples of each.

    Every replicate draws pool, target and held-out examples anew, and which task is how rare.
    """
    _on_rare_skills("rare-skills", corpora, replicates, overrides)


@reproduce_app.command()
def prompts(
    corpora: Corpora = Path("corpora"),
    replicates: Replicates = 10,
    overrides: Overrides = None,
) -> None:
    """Which prompts to have answered: 120 of 1,000 chosen by the prompts alone against as many drawn at random.

    Every replicate draws pool and held-out examples of the rare skills anew.
    """
    _on_rare_skills("prompts", corpora, replicates, overrides)


@reproduce_app.command()
def ceiling(replicates: Replicates = 10, overrides: Overrides = None) -> None:
    """What a perfect choice could win on a clean corpus: as many steps with batches ten times as large.

    Every replicate draws pool and held-out examples anew.
    """
    settings = _preset("ceiling", overrides, CompareConfig)
    _replicated("ceiling", lambda _: settings, replicates)


@reproduce_app.command()
def frozen_features(
    corpus: Annotated[str, typer.Option(help="The corpus: a folder in --texts, such as fortunes or wordnet.")],
    texts: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Of the corpora, as benchmarks/labelled.sh FOLDER writes them.")
    ],
    overrides: Overrides = None,
) -> None:
    """Clean pools: a classifier head on SmolLM2's frozen features, trained on what each method chooses.

    Needs no Prefect. An interrupted run goes on where it was.
    """
    from fishersft.config.frozen_features import FrozenFeaturesConfig
    from fishersft.data.runs import recorded_run
    from fishersft.data.store import put_folder
    from fishersft.reporting.frozen_features import (
        frozen_features_sheets,
        headline,
        over_splits,
        write_frozen_features,
    )
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps import frozen_features as steps
    from fishersft.steps.outcome import open_store

    changes = [f"name=frozen-features-{corpus}", f"texts={json.dumps(str(texts / corpus))}", *(overrides or ())]
    settings = _preset("frozen-features", changes, FrozenFeaturesConfig)
    store, labelled = open_store(settings.store), steps.texts_of_config(settings)
    with recorded_run(store, settings.name), terminal.progress_bars() as progress:
        features = steps.embed_texts(store, settings, labelled.texts, lambda what: terminal.bar(progress, what))
        keys, told, splits = [outcome.key for outcome in features], terminal.bar(progress, "splits"), []
        for seed in settings.seeds:
            splits.append(steps.run_split(store, settings, keys, labelled.labels, len(labelled.names), seed))
            told(len(splits), settings.splits)
    found = [steps.load_split(store, split.key) for split in splits]
    rows = over_splits(found, settings.budgets, settings.held_out / settings.pool)
    for sheet in frozen_features_sheets(rows, found):
        terminal.console.print(sheet_table(sheet))
    terminal.print_lines([headline(rows[0])])
    terminal.print_outcomes([*features, *splits])
    place = f"{settings.output.rstrip('/')}/{settings.name}"
    with tempfile.TemporaryDirectory() as scratch:
        write_frozen_features(rows, found, Path(scratch))
        put_folder(Path(scratch), place)
    terminal.print_path("table", f"{place}/frozen-features.md")


def _on_rare_skills(preset: str, corpora: Path, replicates: int, overrides: Sequence[str] | None) -> None:
    """Runs a preset on pools of rare skills that are drawn anew for every replicate, with tables of the tasks."""
    from fishersft.reporting.replicate_groups import group_sheets
    from fishersft.steps.skills import write_skills

    settings = _preset(preset, overrides, CompareConfig)
    counts = list[dict[str, int]]()

    def drawn(replicate: int) -> CompareConfig:
        folder = corpora.absolute() / preset / str(replicate)
        counts.append(write_skills(folder, settings.seed + replicate))
        return _reading(settings, folder)

    primary = settings.methods[0].name
    _replicated(preset, drawn, replicates, lambda found: group_sheets(found, counts, primary))


def _replicated(
    name: str,
    drawn: Callable[[int], CompareConfig],
    replicates: int,
    further: Callable[[list[Comparison]], list[Sheet]] = lambda found: [],
) -> None:
    """Runs a comparison for every replicate, each with a seed of its own, and prints and saves what they say together.

    Args:
        drawn: the settings of a replicate, with its texts written; the seed is added here.
        further: tables of all replicates, beside the one of the methods.
    """
    from fishersft.data.store import put_folder
    from fishersft.reporting.replicates import over_replicates, replicates_sheet
    from fishersft.reporting.tables import markdown_table, sheet_table
    from fishersft.steps.comparing import load_comparison
    from fishersft.steps.outcome import open_store

    found = []
    for replicate in range(replicates):
        settings = drawn(replicate)
        own = {"name": f"{name}-{replicate}", "seed": settings.seed + replicate}
        settings = settings.model_copy(update={**own, "output": f"{settings.output}/{name}/{replicate}"})
        result = load_plug_in("fishersft.flows", "compare")(settings)
        found.append(load_comparison(open_store(settings.store), result.report))
        terminal.print_lines([f"replicate {replicate + 1} of {replicates}: {found[-1].headline}"])
    perfect = settings.perfect_filter
    together = over_replicates(found, settings.methods[0].name, None if perfect is None else perfect.name)
    sheets = [replicates_sheet(together), *further(found)]
    for sheet in sheets:
        terminal.console.print(sheet_table(sheet))
    place = settings.output.rpartition("/")[0]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "replicates.md")
        told = "\n".join(f"# {sheet.title}\n\n{markdown_table(sheet)}\n" for sheet in sheets)
        file.write_text(told, encoding="utf-8")
        put_folder(Path(scratch), place)
    terminal.print_path("table", f"{place}/replicates.md")


def _reading(settings: CompareConfig, folder: Path) -> CompareConfig:
    """The settings with the pool, the target (if they have one) and the held-out examples of a folder."""
    changed = settings.model_dump()
    changed["corpus"]["path"] = str(folder / "pool.jsonl")
    if settings.target is not None:
        changed["target"]["path"] = str(folder / "target.jsonl")
    changed["evaluation"]["corpus"]["path"] = str(folder / "held-out.jsonl")
    return CompareConfig.model_validate(changed)


def _preset(name: str, overrides: Sequence[str] | None, kind: type[Settings]) -> Settings:
    """The settings of an experiment, with changes from the command line."""
    with resources.as_file(resources.files("fishersft.experiments").joinpath("presets", f"{name}.yaml")) as path:
        return load_settings(path, overrides or (), kind)


def _named(name: str) -> list[str]:
    """Changes that give an experiment a name and a folder of its own."""
    return [f"name={name}", f"output=output/{name}"]


def _compare(preset: str, overrides: Sequence[str]) -> None:
    _run(_preset(preset, overrides, CompareConfig))


def _run(settings: CompareConfig) -> None:
    terminal.print_comparison(settings, load_plug_in("fishersft.flows", "compare")(settings))


def _simulate(preset: str, overrides: list[str] | None) -> None:
    from fishersft.config.simulation import SimulationConfig
    from fishersft.reporting.simulation_page import sheets
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder
    from fishersft.steps.simulating import load_simulation

    settings = _preset(preset, overrides, SimulationConfig)
    result = load_plug_in("fishersft.flows", "simulate")(settings)
    simulation = load_simulation(open_store(settings.store), result.report)
    for sheet in sheets(simulation):
        terminal.console.print(sheet_table(sheet))
    terminal.console.print(f"[bold]{escape(simulation.headline)}[/]", highlight=False)
    terminal.print_made(result)
    terminal.print_path("page", f"{output_folder(settings, settings.name)}/index.html")
