"""The commands `fishersft store ...`: what a store holds, whether it is sound, and what of it may go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishersft import terminal
from fishersft.errors import InputError

if TYPE_CHECKING:
    from fishersft.data.inventory import Inventory
    from fishersft.data.store import Store

store_app = typer.Typer(
    help="Look after a store: list it, verify it, tag what is to stay, remove what nobody needs, copy it.",
    no_args_is_help=True,
)
PLACE = "A folder, a URL such as s3://bucket/prefix, or a CONFIG.yaml, whose `store` is meant."
KEY = "The first digits of an artifact's key, at least 4."

Place = Annotated[str, typer.Option("--store", metavar="PLACE", help=PLACE)]
Key = Annotated[str, typer.Argument(help=KEY)]


@store_app.command()
def ls(
    kind: Annotated[str | None, typer.Argument(help="Such as embeddings; default: all kinds, runs and tags.")] = None,
    place: Place = "store",
) -> None:
    """List artifacts by kind, with the runs and tags that need them.

    The age counts from when an artifact was written to this store: gc goes by it.
    """
    from fishersft import store_tables
    from fishersft.data.artifact_names import KINDS
    from fishersft.data.inventory import take_inventory
    from fishersft.data.runs import read_runs
    from fishersft.data.tags import read_tags

    if kind is not None and kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of artifact; expected one of {', '.join(KINDS)}")
    store = _open(place)
    inventory = take_inventory(store)
    runs, tags = [run.record for run in read_runs(store.files)], read_tags(store.files)
    holders = store_tables.holders(inventory, runs, tags)
    for each in KINDS if kind is None else [kind]:
        store_tables.print_artifacts(inventory, each, holders)
    store_tables.print_damaged(inventory)
    if kind is None:
        store_tables.print_runs(runs)
        store_tables.print_tags(tags)


@store_app.command()
def show(key: Key, place: Place = "store") -> None:
    """Show an artifact: its manifest and files, what it came from and what was made from it."""
    from fishersft import store_tables
    from fishersft.data.inventory import take_inventory

    inventory = take_inventory(_open(place))
    store_tables.print_manifest(inventory.artifact(key))
    store_tables.print_lineage(inventory, inventory.artifact(key).name)


@store_app.command()
def verify(
    key: Annotated[str | None, typer.Argument(help=f"{KEY} Default: all artifacts.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged artifacts, so that the next run makes them anew.")
    ] = False,
    place: Place = "store",
) -> None:
    """Check that every file is there and has the bytes that were written.

    Ends with status 1 where something is damaged and was not repaired. Files of a remote store are fetched for it.
    """
    from fishersft import store_tables
    from fishersft.data.inventory import take_inventory

    store = _open(place)
    inventory = take_inventory(store, twice=True)
    names = [inventory.name_of(key)] if key else [*inventory.artifacts, *inventory.damaged]
    faults = _faults(store, inventory, names)
    store_tables.print_faults(inventory, faults, len(names))
    if faults and repair:
        _remove_damaged(store, inventory, list(faults))
        terminal.console.print(f"{len(faults)} removed: the next run that needs them makes them anew")
    elif faults:
        terminal.console.print("`fishersft store verify --repair` removes them, so that the next run makes them anew")
        raise typer.Exit(1)


@store_app.command()
def du(place: Place = "store") -> None:
    """Show how much of what kind there is, and what belongs to no artifact."""
    from fishersft import store_tables
    from fishersft.data.inventory import take_inventory

    store_tables.print_usage(take_inventory(_open(place)))


@store_app.command()
def gc(
    keep_runs: Annotated[
        int, typer.Option(min=0, help="Keep what the last so many finished runs of every name found or made.")
    ] = 3,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Remove only what was written longer ago, such as 30d or 12h.")
    ] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    place: Place = "store",
) -> None:
    """Remove what no kept run, no tag and no run at work needs, with all that those came from.

    A run at work keeps all that it found, and all that was written since it began. Copies of a remote store's
    artifacts that lie on this machine and were not of use for that long go too.
    """
    from fishersft import store_tables
    from fishersft.data.collecting import find_waste
    from fishersft.steps.collecting import age, collect

    store, oldest = _open(place), age(older_than)
    with terminal.console.status("looking for what nobody needs"):
        waste = find_waste(store, keep_runs, oldest)
    store_tables.print_waste(waste)
    if dry_run:
        return
    with terminal.progress_bars() as progress:
        collected = collect(store, waste, oldest, terminal.bar(progress, "removing"))
    if collected.stayed:
        terminal.console.print(f"{collected.stayed} stayed: a run has come to need them meanwhile")
    if collected.copies:
        terminal.console.print(f"{collected.copies} copies on this machine were not of use lately and are gone too")


@store_app.command()
def tag(
    name: Annotated[str, typer.Argument(help="Letters, digits, dots and dashes, such as paper-v1.")],
    what: Annotated[str, typer.Argument(metavar="KEY|RUN", help="An artifact's key, or a finished run's id.")],
    place: Place = "store",
) -> None:
    """Give an artifact, or all that a run found and made, a name: gc keeps it, with all that it came from."""
    from fishersft.data.inventory import take_inventory
    from fishersft.data.runs import finished_run
    from fishersft.data.tags import write_tag

    store = _open(place)
    if run := finished_run(store.files, what):
        write_tag(store.files, name, f"run {run.id} of {run.name}", run.roots)
        terminal.console.print(f"{name}: run {run.id}, {len(run.roots)} artifacts", highlight=False)
        return
    artifact = take_inventory(store).artifact(what)
    write_tag(store.files, name, artifact.name, [artifact.name])
    terminal.console.print(f"{name}: {artifact.name}", highlight=False)


@store_app.command()
def untag(name: Annotated[str, typer.Argument(help="The tag.")], place: Place = "store") -> None:
    """Take a tag away. What it kept stays until gc."""
    from fishersft.data.tags import remove_tag

    remove_tag(_open(place).files, name)


@store_app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help=PLACE)],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where to: the same.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="These and all that they came from; default: all.")
    ] = None,
) -> None:
    """Copy artifacts from one store to another, each file checked; those that are there are left as they are."""
    from fishersft.data.copying import copy_artifacts, missing_artifacts
    from fishersft.data.inventory import take_inventory
    from fishersft.data.lineage import Lineage

    from_store, to_store = _open(source), _open(target)
    inventory = take_inventory(from_store)
    wanted = set(inventory.artifacts)
    if keys:
        wanted = Lineage(inventory.sources()).needs(inventory.artifact(key).name for key in keys)
    artifacts = [artifact for name, artifact in inventory.artifacts.items() if name in wanted]
    missing = missing_artifacts(to_store, artifacts)
    with terminal.progress_bars() as progress:
        on_progress = terminal.bar(progress, "copying")
        for number, artifact in enumerate(copy_artifacts(from_store, to_store, missing), start=1):
            on_progress(number, len(missing), artifact.manifest.kind)
    terminal.console.print(f"{len(missing)} artifacts copied, {len(artifacts) - len(missing)} were there")


def _open(place: str) -> Store:
    from fishersft.config.files import load_config
    from fishersft.data.store import Store

    if place.endswith((".yaml", ".yml")):
        place = load_config(Path(place)).store
    return Store(place)


def _faults(store: Store, inventory: Inventory, names: Sequence[str]) -> dict[str, list[str]]:
    """By artifact, what is wrong with it."""
    from fishersft.data.verifying import check_files

    faults = {name: [inventory.damaged[name]] for name in names if name in inventory.damaged}
    artifacts = [inventory.artifacts[name] for name in names if name in inventory.artifacts]
    total = sum(len(artifact.manifest.files) for artifact in artifacts)
    with terminal.progress_bars() as progress:
        on_progress = terminal.bar(progress, "verifying files")
        for number, checked in enumerate(check_files(store.files, artifacts), start=1):
            on_progress(number, total)
            if checked.fault:
                faults.setdefault(checked.artifact, []).append(f"file {checked.file} {checked.fault}")
    return faults


def _remove_damaged(store: Store, inventory: Inventory, names: Sequence[str]) -> None:
    from fishersft.data.inventory import manifest_file, remove_files

    for name in names:
        artifact = inventory.artifacts.get(name)
        remove_files(store.files, [file.name for file in artifact.files] if artifact else [manifest_file(name)])
