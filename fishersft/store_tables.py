"""What the commands `fishersft store ...` print. All text from a store is shown as text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fishersft import terminal
from fishersft.data.artifact_names import KINDS
from fishersft.data.collecting import Waste
from fishersft.data.files import FileInfo
from fishersft.data.inventory import Artifact, Inventory
from fishersft.data.lineage import Lineage
from fishersft.data.manifest import Manifest
from fishersft.data.runs import RunRecord
from fishersft.data.tags import Tag
from fishersft.reporting.text import one_line
from fishersft.steps.collecting import waste_by_kind

_SHORT_KEY = 12
_SHOWN = 5  # of many alike
_LONGEST = 80
_COUNTED = ("pool", "rows", "sentences", "prompts", "tokens", "steps")
_SETTINGS = ("method", "criterion", "dtype", "from")


def holders(inventory: Inventory, runs: Sequence[RunRecord], tags: Mapping[str, Tag]) -> dict[str, list[str]]:
    """By artifact, the tags and then the runs that need it, the last run first; failed runs hold nothing."""
    lineage = Lineage(inventory.sources())
    held = dict[str, list[str]]()
    roots = {**{name: tag.roots for name, tag in tags.items()}}
    roots |= {run.id: run.roots for run in reversed(runs) if run.state != "failed"}
    for holder, its_roots in roots.items():
        for name in lineage.needs(its_roots):
            held.setdefault(name, []).append(holder)
    return held


def print_artifacts(inventory: Inventory, kind: str, held: Mapping[str, list[str]]) -> None:
    """The artifacts of a kind, oldest first, under a line that sums them up; nothing where there are none."""
    artifacts = [artifact for artifact in inventory.artifacts.values() if artifact.manifest.kind == kind]
    if not artifacts:
        return
    total = sum(artifact.size for artifact in artifacts)
    table = _table(f"{kind}: {len(artifacts):,}, {decimal(total)}", "key", "created", "age", ">size", "what", "held by")
    for artifact in artifacts:
        manifest = artifact.manifest
        by = held.get(artifact.name, [])
        _row(
            table,
            manifest.key[:_SHORT_KEY],
            manifest.created[:16].replace("T", " "),
            age(artifact.modified),
            decimal(artifact.size),
            description(manifest),
            f"{by[0]} +{len(by) - 1}" if len(by) > 1 else "".join(by),
        )
    terminal.console.print(table)


def print_damaged(inventory: Inventory) -> None:
    """Artifacts whose manifest is no manifest."""
    for fault in inventory.damaged.values():
        terminal.console.print(Text(one_line(fault), style="yellow"))


def print_runs(runs: Sequence[RunRecord]) -> None:
    """The runs on record, the last one at the end."""
    if not runs:
        return
    table = _table(f"runs: {len(runs):,}", "id", "name", "state", "host", ">made", ">found")
    for run in runs:
        _row(table, run.id, run.name, run.state, run.host, f"{run.made:,}", f"{len(run.roots) - run.made:,}")
    terminal.console.print(table)


def print_tags(tags: Mapping[str, Tag]) -> None:
    """The tags."""
    if not tags:
        return
    table = _table(f"tags: {len(tags):,}", "name", "created", "what")
    for name, tag in tags.items():
        _row(table, name, f"{tag.created:%Y-%m-%d %H:%M}", tag.what)
    terminal.console.print(table)


def print_manifest(artifact: Artifact) -> None:
    """An artifact's manifest, long lists cut, and its files."""
    manifest = artifact.manifest
    head = {
        "kind": manifest.kind,
        "key": manifest.key,
        "what": description(manifest),
        "created": manifest.created,
        "seconds to make": manifest.seconds,
        "made by": manifest.code,
        "settings": manifest.params,
        "inputs": manifest.inputs,
        "facts": manifest.facts,
    }
    text = yaml.safe_dump(_short(head), sort_keys=False, allow_unicode=True, width=10 * _LONGEST)
    terminal.console.print(Text(text), soft_wrap=True)
    terminal.console.print(Text(f"files in {artifact.name}/{manifest.content}"), soft_wrap=True)
    table = _table("", "file", ">size", "sha256")
    for entry in manifest.files:
        _row(table, entry.name, decimal(entry.size), entry.sha256[:_SHORT_KEY])
    terminal.console.print(table)


def print_lineage(inventory: Inventory, name: str) -> None:
    """What an artifact came from, as a tree, and by kind what was made from it."""
    lineage = Lineage(inventory.sources())
    if lineage.sources(name):
        tree = Tree("it came from")
        _grow(tree, inventory, lineage, name, {name})
        terminal.console.print(tree)
    else:
        terminal.console.print("it came from no other artifact")
    dependents = lineage.dependents(name)
    if not dependents:
        terminal.console.print("nothing was made from it")
        return
    table = _table("made from it", "kind", ">number", "keys")
    for kind in KINDS:
        keys = sorted(other.partition("/")[2] for other in dependents if other.startswith(f"{kind}/"))
        if keys:
            _row(table, kind, f"{len(keys):,}", _some([key[:_SHORT_KEY] for key in keys]))
    terminal.console.print(table)


def print_faults(inventory: Inventory, faults: Mapping[str, Sequence[str]], checked: int) -> None:
    """What is damaged, and what depends on it."""
    lineage = Lineage(inventory.sources())
    for name, texts in faults.items():
        for text in texts:
            terminal.console.print(Text(f"{name}: {one_line(text)}", style="red"), soft_wrap=True)
        if dependents := sorted(lineage.dependents(name)):
            made = _some([_short_name(other) for other in dependents])
            terminal.console.print(Text(f"  made from it: {made}"), soft_wrap=True)
    terminal.console.print(f"{checked:,} artifacts checked, {len(faults):,} damaged")


def print_usage(inventory: Inventory) -> None:
    """By kind, how many artifacts and bytes; then files that belong to none."""
    table = _table("", "kind", ">number", ">size")
    for kind in KINDS:
        artifacts = [artifact for artifact in inventory.artifacts.values() if artifact.manifest.kind == kind]
        if artifacts:
            _row(table, kind, f"{len(artifacts):,}", decimal(sum(artifact.size for artifact in artifacts)))
    table.add_section()
    orphans = [file for files in inventory.orphans().values() for file in files]
    for what, files in {"files without a manifest": orphans, **inventory.scratch}.items():
        _row(table, what, f"{len(files):,}", _total(files))
    terminal.console.print(table)
    print_damaged(inventory)


def print_waste(waste: Waste) -> None:
    """By kind, what gc removes and what that frees."""
    table = _table("to remove", "kind", ">number", ">size")
    for kind, number, size in waste_by_kind(waste):
        _row(table, kind, f"{number:,}", "" if size is None else decimal(size))
    terminal.console.print(table if table.row_count else "nothing to remove")


def age(moment: datetime) -> str:
    """How long ago, in the unit that fits."""
    passed = max(datetime.now(UTC) - moment, timedelta())
    if passed >= timedelta(days=1):
        return f"{passed.days} d"
    if passed >= timedelta(hours=1):
        return f"{passed.seconds // 3600} h"
    return f"{passed.seconds // 60} min"


def description(manifest: Manifest) -> str:
    """What an artifact is, in a few words from its facts and settings."""
    if isinstance(headline := manifest.facts.get("headline"), str):
        return one_line(headline)[:_LONGEST]
    settings = [str(manifest.params[name]) for name in _SETTINGS if isinstance(manifest.params.get(name), str)]
    counts = [
        f"{manifest.facts[name]:,} {'in the pool' if name == 'pool' else name}"
        for name in _COUNTED
        if isinstance(manifest.facts.get(name), int)
    ]
    return one_line(", ".join([*counts, *settings]))[:_LONGEST]


def _grow(tree: Tree, inventory: Inventory, lineage: Lineage, name: str, seen: set[str]) -> None:
    """The sources of an artifact as branches: each artifact once, of many of a kind the first ones."""
    by_kind = dict[str, list[str]]()
    for source in lineage.sources(name):
        by_kind.setdefault(source.partition("/")[0], []).append(source)
    for kind, sources in by_kind.items():
        for source in sources[:_SHOWN]:
            artifact = inventory.artifacts.get(source)
            what = description(artifact.manifest) if artifact else "not in this store"
            label = f"{_short_name(source)} {what}"
            if source in seen:
                tree.add(Text(f"{label} (see above)"))
                continue
            seen.add(source)
            _grow(tree.add(Text(label)), inventory, lineage, source, seen)
        if len(sources) > _SHOWN:
            tree.add(Text(f"and {len(sources) - _SHOWN:,} more of kind {kind}"))


def _short(value: Any) -> Any:
    """The value with long lists and texts cut, and every text on one visible line."""
    if isinstance(value, dict):
        return {_short(str(name)): _short(item) for name, item in value.items()}
    if isinstance(value, list):
        shown = [_short(item) for item in value[:_SHOWN]]
        return shown if len(value) <= _SHOWN else [*shown, f"and {len(value) - _SHOWN:,} more"]
    if isinstance(value, str):
        text = one_line(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return value


def _short_name(name: str) -> str:
    kind, _, key = name.partition("/")
    return f"{kind}/{key[:_SHORT_KEY]}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _total(files: Iterable[FileInfo]) -> str:
    return decimal(sum(file.size for file in files))


def _table(title: str, *columns: str) -> Table:
    """A table; columns that begin with ">" are aligned to the right."""
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(one_line(cell)) for cell in cells))
