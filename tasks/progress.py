"""Progress of a step as an artifact in Prefect's UI and as a line in the log now and then."""

from __future__ import annotations

import time
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

_ARTIFACT_SECONDS = 2.0
_LOG_SECONDS = 15.0


class Progress:
    """Called with (done, in all, note): updates a progress artifact every 2 seconds and logs every quarter of a minute.

    The rate counts from the first call, as what was done by then may stem from an earlier run.

    Args:
        what: what is being done, such as "embedding shard 3 of 8".
        unit: what is counted, such as "tokens".
    """

    def __init__(self, what: str, unit: str):
        self._what = what
        self._unit = unit
        self._logger = get_run_logger()
        self._shown = self._logged = time.monotonic()
        self._first: tuple[float, int] | None = None  # when it was first called, and what was done by then
        self._artifact: UUID | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        finished = done >= total
        if finished or now - self._shown >= _ARTIFACT_SECONDS:
            self._shown = now
            self._show(done, total, note)
        if now - self._logged >= _LOG_SECONDS and not finished:
            self._logged = now
            self._logger.info("%s", self._line(done, total, note))

    def _line(self, done: int, total: int, note: str) -> str:
        line = f"{self._what}: {done:,} of {total:,} {self._unit}"
        began, before = self._first or (0.0, done)
        if done > before:
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            line += f", {rate:,.1f} a second, {(total - done) / rate:,.0f} s left"
        return f"{line}; {note}" if note else line

    def _show(self, done: int, total: int, note: str) -> None:
        percent = 100.0 * done / total if total else 100.0
        if self._artifact is None:
            artifact = create_progress_artifact(progress=percent, description=self._line(done, total, note))
            assert isinstance(artifact, UUID), "the synchronous call returns the artifact's id"
            self._artifact = artifact
        else:
            update_progress_artifact(self._artifact, progress=percent, description=self._line(done, total, note))
