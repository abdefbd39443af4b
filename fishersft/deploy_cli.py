"""The commands `fishersft deploy` and `fishersft notify`: what a Prefect server has to know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from fishersft import terminal
from fishersft.config.files import load_config, load_settings
from fishersft.errors import InputError
from fishersft.plug_ins import load_plug_in

_GROUP = "fishersft.deployments"
_IMAGE_HOME = Path("/work")  # where the image of the Dockerfile runs

PoolType = Annotated[
    Literal["process", "docker", "kubernetes", "ecs"],
    typer.Option("--pool-type", help="Of the work pools that are made: where they start runs."),
]


def deploy(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG.yaml]",
            help="For curate/nightly, curate/on-new-data and store/gc, and turns them on; without it they stay as "
            "they are. `fishersft config` prints one to start from.",
        ),
    ] = None,
    comparison: Annotated[
        Path | None, typer.Option(metavar="COMPARISON.yaml", help="For compare/weekly, and turns it on.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="When curate/nightly runs, in UTC; default: '0 2 * * *', at 02:00.")
    ] = None,
    pool_type: PoolType = "process",
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOST/PATH", help="Where the images are, for kubernetes and ecs pools that are made."),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The work pool of curate/* and compare/weekly, such as fishersft-gpu; default: the one that they "
            "have, at first fishersft.",
        ),
    ] = None,
) -> None:
    """Register work pools, deployments, automations and limits with Prefect's server; again, it changes what differs.

    Relative paths in a configuration start from the folder in which this command runs.
    """
    from fishersft.config.compare import CompareConfig

    if cron is not None and config is None:
        raise InputError("--cron says when curate/nightly runs; name its CONFIG.yaml too")
    changes = load_plug_in(_GROUP, "deploy")(
        config=None if config is None else load_config(config),
        comparison=None if comparison is None else load_settings(comparison, (), CompareConfig),
        cron=cron,
        pool_type=pool_type,
        home=Path.cwd() if pool_type == "process" else _IMAGE_HOME,
        pool=pool,
        registry=registry,
    )
    table = Table("what", "name", "", "in the UI")
    for change in changes:
        table.add_row(change.kind, escape(change.name), change.what, escape(change.url))
    terminal.console.print(table)


def notify(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="A path or URL as in corpus.path, or a CONFIG.yaml, which has it.")
    ],
) -> None:
    """Tell Prefect's server that a corpus changed, which starts curate/on-new-data if it is that one's corpus."""
    paths: str | list[str] = corpus
    if corpus.endswith((".yaml", ".yml")):
        paths = load_config(Path(corpus)).corpus.path
    tell = load_plug_in(_GROUP, "notify")
    started = sorted({name for path in ([paths] if isinstance(paths, str) else paths) for name in tell(path)})
    if started:
        typer.echo(f"told; this starts: {', '.join(started)}")
    else:
        typer.echo("told, but no trigger that is on listens to this corpus; `fishersft deploy CONFIG.yaml` makes one")
