"""The command `fishersft judge`: two files of texts before one or more judges, without Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishersft import terminal
from fishersft.config import CurateConfig
from fishersft.config.files import checked_config, load_config

if TYPE_CHECKING:
    from fishersft.data.store import Store
    from fishersft.models.judging import Pair
    from fishersft.steps.judges import PreparedJudge
    from fishersft.steps.outcome import Outcome

QUESTION, WHO = "The question", "The judge"
TEXTS = "JSONL or Parquet with a column `text`, or `prompt` and `completion`; or the folder of a generations artifact."


def judge(
    first: Annotated[str, typer.Argument(help=TEXTS)],
    second: Annotated[str, typer.Argument(help="The texts to compare them with, row by row.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG.yaml", help="Takes evaluation.judging from there: several judges, prices, pace."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A local model, or with --base-url the name it is served under. Default: SmolLM2.",
            rich_help_panel=WHO,
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint, such as https://api.openai.com/v1.", rich_help_panel=WHO),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="The environment variable that holds its key. Default: OPENAI_API_KEY for OpenAI itself.",
            rich_help_panel=WHO,
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What the texts should be: more fluent TASK text.", rich_help_panel=QUESTION)
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="What the better text is more of, in place of fluent.", rich_help_panel=QUESTION)
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option(
            help="A question of your own; it says when to respond 1 and when to respond 2.", rich_help_panel=QUESTION
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Real texts: does the judge tell them from the same words shuffled?"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="Write the texts with all verdicts there.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Where verdicts are kept, so that none is asked for twice. Default: store.")
    ] = None,
) -> None:
    """Ask judges which of two texts is better, for each row of two files.

    Every pair is asked about in both orders; a preference that turns with the order is a tie. Verdicts are kept: a run
    that was interrupted goes on where it was, and a second one asks nothing.
    """
    from fishersft.data.compared import read_compared, read_texts
    from fishersft.data.runs import recorded_run
    from fishersft.steps.outcome import open_store

    settings = _settings(
        first,
        config,
        judging={"task": task, "criterion": criterion, "rubric": rubric},
        judge={"model": model, "base_url": base_url, "api_key_env": api_key_env},
        store=store,
    )
    pairs = read_compared(first, second)
    real = read_texts(calibrate) if calibrate else None
    place = open_store(settings.store)
    with recorded_run(place, f"judge-{settings.name}"):
        judges = [_prepared(place, settings, number) for number in range(len(settings.evaluation.judging.judges))]
        calibrated = [_calibrate(place, settings, each, real) for each in judges] if real is not None else []
        judged = [_judge(place, each, pairs) for each in judges]
    _print_judgements(place, judges, judged, calibrated)
    if output is not None:
        _write(place, output, pairs, judges, judged)


def _settings(
    first: str, config: Path | None, judging: dict[str, Any], judge: dict[str, Any], store: str | None
) -> CurateConfig:
    """The settings of the file, where there is one, with the options in their place."""
    values: dict[str, Any] = load_config(config).model_dump() if config else {"corpus": {"path": first}}
    given = values.setdefault("evaluation", {}).setdefault("judging", {})
    given.update(_named(judging))
    if _named(judge):
        given["judges"] = [_named(judge)]
    values.update(_named({"store": store}))
    return checked_config(values, "fishersft judge", CurateConfig)


def _named(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _prepared(store: Store, settings: CurateConfig, number: int) -> PreparedJudge:
    from fishersft.steps.judges import prepare_judge
    from fishersft.steps.models import device_of

    return prepare_judge(
        store,
        settings.evaluation.judging,
        settings.model,
        number=number,
        device=device_of(settings),
        batch_tokens=settings.embedding.batch_tokens,
    )


def _calibrate(store: Store, settings: CurateConfig, judge: PreparedJudge, texts: Sequence[str]) -> Outcome:
    from fishersft.steps.judging import calibrate_on

    most = settings.evaluation.judging.calibration_pairs
    with terminal.progress_bars() as progress:
        bar = terminal.bar(progress, f"calibrating {judge.name}")
        return calibrate_on(store, judge, texts, most, settings.seed, bar)


def _judge(store: Store, judge: PreparedJudge, pairs: Sequence[Pair]) -> Outcome:
    from fishersft.steps.judging import judge_texts

    with terminal.progress_bars() as progress:
        return judge_texts(store, judge, pairs, terminal.bar(progress, f"judging by {judge.name}"))


def _print_judgements(
    store: Store, judges: Sequence[PreparedJudge], judged: Sequence[Outcome], calibrated: Sequence[Outcome]
) -> None:
    from fishersft.judge_tables import Judged, judgements_table, remarks
    from fishersft.steps.findings import win_rate
    from fishersft.steps.judge_findings import REAL, SHUFFLED, agreement

    results = [
        Judged(
            name=judge.name,
            config=judge.config,
            rate=win_rate(store, "the first", "the second", outcome.key),
            calibration=win_rate(store, REAL, SHUFFLED, calibrated[number].key) if calibrated else None,
            agreement=agreement(store, [judged[0].key], [outcome.key]) if number else None,
            outcomes=[outcome, *calibrated[number : number + 1]],
        )
        for number, (judge, outcome) in enumerate(zip(judges, judged, strict=True))
    ]
    terminal.console.print(judgements_table(results))
    for remark in remarks(results):
        terminal.console.print(remark)


def _write(
    store: Store, output: Path, pairs: Sequence[Pair], judges: Sequence[PreparedJudge], judged: Sequence[Outcome]
) -> None:
    """A row a judge and pair: the texts as they were shown, the verdicts in both orders, and the first text's score."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fishersft.models.judging import harmless
    from fishersft.numerics import pair_scores

    tables = []
    for judge, outcome in zip(judges, judged, strict=True):
        verdicts = pq.read_table(store.fetch("judgements", outcome.key) / "judgements.parquet")
        scores = pair_scores(verdicts["choice"].to_numpy(), verdicts["swapped_choice"].to_numpy())
        texts = {"judge": [judge.name] * len(pairs), "first": [harmless(text) for text, _ in pairs]}
        texts["second"] = [harmless(text) for _, text in pairs]
        columns = {name: verdicts[name] for name in verdicts.column_names}
        tables.append(pa.table({**texts, **columns, "score": scores}))
    output.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), output)
    terminal.print_path("verdicts", str(output))
