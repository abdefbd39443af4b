"""Run records: which runs a store has seen, whether one is at work now, and which artifacts each of them uses.

A record is `ROOT/.runs/ID.json`. It is written when a run starts, renewed while it runs, and written again when it
ends. A run that was killed stops renewing, so its record gets old: that is how others tell. Times are the store's own,
so that machines whose clocks differ agree.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ValidationError

from fishersft.data.artifact_names import ArtifactName
from fishersft.data.files import FileInfo, Files
from fishersft.data.store import Store
from fishersft.errors import InputError

RENEWAL_SECONDS = 30.0
GATHER_SECONDS = 1.0
LIVE_FOR = timedelta(minutes=5)
_FOLDER = ".runs/"
_CLOCK = ".runs/clock"
_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}")
_RECORD = re.compile(rf"\.runs/{_ID.pattern}\.json")

State = Literal["running", "finished", "failed"]


class RunRecord(BaseModel):
    """What a run says of itself.

    Attributes:
        id: sorts by the time of the start.
        name: what runs of the same purpose have in common.
        roots: "kind/key" of the artifacts it found or made.
        facts: a few small results, such as the key of its selection.
        made: how many of the roots it made; the others it found.
    """

    id: str
    name: str
    state: State
    host: str
    started: datetime
    ended: datetime | None = None
    roots: list[ArtifactName] = []
    facts: dict[str, str] = {}
    made: int = 0


@dataclass(frozen=True)
class SeenRun:
    """A run record as the store has it, and when it was last written by the store's clock."""

    record: RunRecord
    modified: datetime


class Run:
    """A run at work: what is registered here, gc does not remove while the run is live."""

    def __init__(self, files: Files, name: str):
        self._files = files
        self._made = dict[str, bool]()  # "kind/key" to whether this run made it
        self._began = time.monotonic()
        started = store_time(files)
        self._record = RunRecord(
            id=f"{started:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(2)}",
            name=name,
            state="running",
            host=socket.gethostname(),
            started=started,
        )
        self._writing = threading.Lock()
        self._registered = threading.Event()
        self._ending = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name=f"record of {name}", daemon=True)

    @property
    def id(self) -> str:
        return self._record.id

    def uses(self, *artifacts: str) -> None:
        """Registers artifacts by "kind/key"; they are on record when it returns.

        Raises:
            InputError: the store cannot be written.
        """
        for artifact in artifacts:
            self._made.setdefault(artifact, False)
        self._write()

    def note(self, **facts: str) -> None:
        """Small facts for the record, such as selection="1f0c…"."""
        self._record.facts.update(facts)
        self._registered.set()

    def found_or_made(self, kind: str, key: str, hit: bool) -> None:
        """Registers what a step found or made; it is on record a second later."""
        self._made.setdefault(f"{kind}/{key}", not hit)
        self._registered.set()

    def start(self) -> None:
        self._write()
        self._renewal.start()

    def end(self, state: State) -> None:
        self._ending.set()
        self._registered.set()
        self._renewal.join()
        self._record.state = state
        self._record.ended = self._record.started + timedelta(seconds=time.monotonic() - self._began)
        self._write()

    def _renew(self) -> None:
        while not self._ending.is_set():
            if self._registered.wait(RENEWAL_SECONDS):
                self._ending.wait(GATHER_SECONDS)  # what is registered in a burst goes into one write
            self._registered.clear()
            if not self._ending.is_set():
                self._write_if_possible()

    def _write_if_possible(self) -> None:
        """Where the store is out of reach, the next renewal tries again; the step that needs it says so."""
        try:
            self._write()
        except (InputError, OSError):
            self._registered.set()

    def _write(self) -> None:
        with self._writing:
            made = dict(self._made)
            self._record.roots, self._record.made = list(made), sum(made.values())
            self._files.write(f"{_FOLDER}{self.id}.json", self._record.model_dump_json(indent=1).encode())


@contextmanager
def recorded_run(store: Store, name: str) -> Iterator[Run]:
    """A run that the store knows of, from its start to its end, with all that steps find or make there meanwhile.

    Raises:
        InputError: the store cannot be written.
    """
    run = Run(store.files, name)
    run.start()
    store.on_use.append(run.found_or_made)
    state: State = "failed"
    try:
        yield run
        state = "finished"
    finally:
        store.on_use.remove(run.found_or_made)
        run.end(state)


def last_finished(store: Store, name: str) -> RunRecord | None:
    """The record of the last run of that name that finished, by its start; None where there is none.

    Raises:
        InputError: a record is not readable.
    """
    for file in reversed(_record_files(store.files, twice=True)):
        run = _read(store.files, file)
        if run is not None and run.record.name == name and run.record.state == "finished":
            return run.record
    return None


def finished_run(files: Files, run: str) -> RunRecord | None:
    """The record of the run of that id; None where the text is no id of a run.

    Raises:
        InputError: there is no such run, or it has not finished.
    """
    if not _ID.fullmatch(run):
        return None
    for seen in read_runs(files):
        if seen.record.id == run:
            if seen.record.state != "finished":
                raise InputError(f"run {run} has not finished: it is {seen.record.state}; name one that has")
            return seen.record
    raise InputError(f"no run {run} is on record; `fishersft store ls` lists them")


def read_runs(files: Files, since: datetime | None = None, twice: bool = False) -> list[SeenRun]:
    """The runs on record, oldest first; with `since`, those whose record was written then or later.

    `twice` is as `Files.list` has it.

    Raises:
        InputError: a record is not readable.
    """
    wanted = [file for file in _record_files(files, twice) if since is None or file.modified >= since]
    return [run for file in wanted if (run := _read(files, file))]


def is_live(run: SeenRun, now: datetime) -> bool:
    """Whether a run is at work: its record was renewed lately, by the store's clock `now`."""
    return run.record.state == "running" and now - run.modified < LIVE_FOR


def record_name(run: RunRecord) -> str:
    """The file of a record, below the store's root."""
    return f"{_FOLDER}{run.id}.json"


def store_time(files: Files) -> datetime:
    """The time by the store's own clock: when a file that is written now was modified."""
    files.write(_CLOCK, b"")
    clock = next((file for file in files.list(_FOLDER, twice=True) if file.name == _CLOCK), None)
    if clock is None:
        raise InputError(f"{_CLOCK} was written in {files.shown} and is not listed there; run again")
    return clock.modified


def _record_files(files: Files, twice: bool = False) -> list[FileInfo]:
    found = (file for file in files.list(_FOLDER, twice) if _RECORD.fullmatch(file.name))
    return sorted(found, key=lambda file: file.name)


def _read(files: Files, file: FileInfo) -> SeenRun | None:
    try:
        record = RunRecord.model_validate_json(files.read(file.name))
    except FileNotFoundError:  # removed by gc since it was listed
        return None
    except ValidationError as error:
        raise InputError(
            f"{file.name} in the store is no run record that this version of FisherSFT knows ({error.error_count()} "
            "faults); if a newer one wrote it, upgrade; else delete that file: gc then keeps nothing for that run"
        ) from error
    if record_name(record) != file.name:
        raise InputError(f"{file.name} in the store is the record of another run; delete that file")
    return SeenRun(record, file.modified)
