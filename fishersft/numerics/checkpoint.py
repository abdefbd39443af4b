"""What a long selection has chosen so far, in a file, so that it can go on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from fishersft.errors import InputError
from fishersft.numerics.greedy import Picks

_SECONDS_BETWEEN = 5.0


class Checkpoint:
    """The picks of an unfinished selection, as JSON, replaced as a whole each few seconds.

    Args:
        path: of the file. One of another problem is refused, not overwritten.
        problem: bytes that determine the selection: blocks, budget, conditions.

    Raises:
        InputError: the file is of another problem, or no checkpoint at all.
    """

    def __init__(self, path: Path, problem: list[bytes]) -> None:
        self._path = path
        digest = hashlib.sha256()
        for part in problem:
            digest.update(len(part).to_bytes(8, "little") + part)
        self._problem = digest.hexdigest()
        self._runs = self._read()
        self._saved_at = time.monotonic()

    def restore(self, picks: Picks, multiple_of: int = 1) -> None:
        """Take again what was chosen before, as many picks as an algorithm can go on from."""
        run = self._runs.get(picks.rule)
        if run is not None:
            whole = len(run["indices"]) // multiple_of * multiple_of
            for index, gain in zip(run["indices"][:whole], run["gains"][:whole], strict=True):
                picks.take(index, gain)
            picks.upper_bound = run["upper_bound"]

    def save(self, picks: Picks, *, now: bool = False) -> None:
        """Write the picks so far, if the last time was long enough ago."""
        if not now and time.monotonic() - self._saved_at < _SECONDS_BETWEEN:
            return
        indices = picks.indices[: len(picks.gains)]  # Ctrl-C may have come between the two
        self._runs[picks.rule] = {"indices": indices, "gains": picks.gains, "upper_bound": picks.upper_bound}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"problem": self._problem, "runs": self._runs}))
        temporary.replace(self._path)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """The selection is complete."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict]:
        if not self._path.exists():
            return {}
        if not self._path.is_file():
            raise InputError(f"{self._path} is a folder; expected a file for the checkpoint of a selection")
        try:
            content = json.loads(self._path.read_text())
            problem, runs = content["problem"], content["runs"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path} is not a checkpoint of a selection ({error}); remove it") from error
        if problem != self._problem:
            raise InputError(
                f"{self._path} is the checkpoint of another selection (other blocks, budget or conditions); "
                "finish that one, remove the file, or name another"
            )
        return runs
