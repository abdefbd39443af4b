"""Garbage collection: what no kept run, no tag and no run at work needs, and is old enough to go.

What goes is decided once and looked at again before each batch is removed. What is left open is less than a second:
a run that finds an artifact after that look and before its removal loses it. It then ends with an error that names
the artifact, and makes it anew when it is started again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from fishersft.data.concurrency import at_once
from fishersft.data.files import FileInfo, Files
from fishersft.data.inventory import SCRATCH, Artifact, remove_files, take_inventory
from fishersft.data.lineage import Lineage
from fishersft.data.runs import LIVE_FOR, RunRecord, SeenRun, is_live, read_runs, record_name, store_time
from fishersft.data.store import Store
from fishersft.data.tags import Tag, read_tags
from fishersft.errors import InputError

_BATCH = 50
_LOOKERS = 8


@dataclass(frozen=True)
class Waste:
    """What gc would remove, and what it has to look at again when it does.

    Attributes:
        artifacts: those that nobody needs, what was made of others first.
        orphans: by artifact name, files in its folder that no manifest names.
        scratch: by "drafts", "checkpoints" and "claims", files of work that nobody goes on with.
        records: run records that are not kept.
        before: what was written since then stays.
        sources: what each artifact in the store came from.
        idle: by id, when the records of runs that were not at work were written. One that stood still may go on.
        decided: when, by the store's clock.
    """

    artifacts: list[Artifact]
    orphans: dict[str, list[FileInfo]]
    scratch: dict[str, list[FileInfo]]
    records: list[SeenRun]
    before: datetime
    sources: dict[str, list[str]]
    idle: dict[str, datetime]
    decided: datetime

    def folders(self) -> dict[str, list[str]]:
        """By artifact name, the files that go from its folder."""
        folders = {artifact.name: [file.name for file in artifact.files] for artifact in self.artifacts}
        for name, orphans in self.orphans.items():
            folders.setdefault(name, []).extend(file.name for file in orphans)
        return folders


def find_waste(store: Store, keep_runs: int, older_than: timedelta) -> Waste:
    """What may go: written longer ago than that, before any run at work began, and needed by nobody.

    Args:
        store: where to look.
        keep_runs: the last so many finished runs of every name need what they found and made.
        older_than: younger files stay in any case.

    Raises:
        InputError: a manifest, a run record or a tag is not readable, or a tag names what is not there, so that what
            is needed is not known; or no run is kept and nothing tagged, though runs were to be kept.
    """
    now = store_time(store.files)
    inventory = take_inventory(store, twice=True)
    if inventory.damaged:
        raise InputError(
            f"{len(inventory.damaged)} manifests are not readable, so what is needed is not known; `fishersft store "
            f"verify --repair` removes them. The first: {next(iter(inventory.damaged.values()))}"
        )
    runs = read_runs(store.files, twice=True)
    live = [run for run in runs if is_live(run, now)]
    kept = _last_finished(runs, keep_runs)
    tags = read_tags(store.files, twice=True)
    if keep_runs and inventory.artifacts and not (kept or live or tags):
        raise InputError(
            "no finished run and no tag in this store says what is needed, so everything would go; run your configs "
            "first (what is there is found, not made again), tag what to keep, or give --keep-runs 0"
        )
    for name, tag in tags.items():
        if gone := sorted(set(tag.roots) - set(inventory.artifacts)):
            raise InputError(
                f"the tag {name} stands for {gone[0]}, which is not in this store, so what that came from is not "
                f"known; run its config again, or `fishersft store untag {name}`"
            )
    before = min([now - older_than, *(run.record.started for run in live)])
    sources = inventory.sources()
    # A run's record names all that it found or made, so it needs no lineage of what is gone.
    needed = Lineage(sources).needs(_roots([run.record for run in (*kept, *live)], tags.values()))
    old = {name for name, files in inventory.folders.items() if all(file.modified < before for file in files)}
    return Waste(
        artifacts=[a for name, a in reversed(inventory.artifacts.items()) if name in old and name not in needed],
        orphans={
            name: files
            for name, files in inventory.orphans().items()
            if name in old and (name in inventory.artifacts or name not in needed)
        },
        scratch={what: _abandoned(what, files, now, before) for what, files in inventory.scratch.items()},
        records=[run for run in runs if run not in kept and run not in live and run.modified < before],
        before=before,
        sources=sources,
        idle={run.record.id: run.modified for run in runs if run not in live},
        decided=now,
    )


def remove_waste(store: Store, waste: Waste) -> Iterator[tuple[int, int]]:
    """Removes it in batches, and gives after each how many artifacts' folders it looked at and how many went.

    Before each batch it reads anew which runs are at work and what is tagged: what they need by now stays, and
    what was written again meanwhile.

    Raises:
        InputError: the store cannot be read or written.
    """
    folders = waste.folders()
    names = list(folders)
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        going = _still_waste(store, waste, batch)
        _remove(store.files, [file for name in going for file in folders[name]])
        yield len(batch), len(going)
    for folder, what in SCRATCH.items():
        was = {file.name for file in waste.scratch[what]}
        now = _abandoned(what, store.files.list(folder), waste.decided, waste.before)
        _remove(store.files, [file.name for file in now if file.name in was])
    _remove(store.files, [record_name(run.record) for run in waste.records])


def _last_finished(runs: Sequence[SeenRun], number: int) -> list[SeenRun]:
    """The last so many finished runs of every name."""
    kept, seen = [], Counter[str]()
    for run in reversed(runs):
        if run.record.state == "finished" and seen[run.record.name] < number:
            seen[run.record.name] += 1
            kept.append(run)
    return kept


def _roots(runs: Iterable[RunRecord], tags: Iterable[Tag]) -> Iterator[str]:
    for run in runs:
        yield from run.roots
    for tag in tags:
        yield from tag.roots


def _before(files: Iterable[FileInfo], moment: datetime) -> list[FileInfo]:
    return [file for file in files if file.modified < moment]


def _abandoned(what: str, files: Iterable[FileInfo], now: datetime, before: datetime) -> list[FileInfo]:
    """Files of work that nobody goes on with; a claim is renewed every few seconds, so it need not be old."""
    return _before(files, now - LIVE_FOR if what == "claims" else before)


def _still_waste(store: Store, waste: Waste, names: Sequence[str]) -> list[str]:
    recent = read_runs(store.files, since=waste.decided - LIVE_FOR, twice=True)
    at_work = [run.record for run in recent if run.modified != waste.idle.get(run.record.id)]
    tags = read_tags(store.files, twice=True).values()

    def sources_in_store(name: str) -> list[str]:
        kind, _, key = name.partition("/")
        manifest = store.find(kind, key)
        return manifest.sources if manifest else []

    lineage = Lineage(waste.sources, look_up=sources_in_store)
    needed = lineage.needs(_roots(at_work, tags))
    before = min([waste.before, *(run.started for run in at_work)])
    folders = at_once(lambda name: list(store.files.list(name)), names, _LOOKERS)
    return [
        name
        for name, files in zip(names, folders, strict=True)
        if name not in needed and len(_before(files, before)) == len(files)
    ]


def _remove(files: Files, names: Sequence[str]) -> None:
    """Removes files, and folders of this machine that are empty then."""
    remove_files(files, names)
    if not files.is_local:
        return
    folders = {folder for name in names for folder in PurePosixPath(name).parents if len(folder.parts) > 1}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):  # not empty
            files.local_path(str(folder)).rmdir()
