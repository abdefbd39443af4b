"""Claims: who makes an artifact, or does a run, says so beside the store, so that others wait rather than do the same.

A claim is a hint and no lock. Where it fails (a store without conditional writes, an owner that stands still too
long), work is done twice, and the artifact is right all the same.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import psutil

from fishersft.data.files import Files
from fishersft.errors import InputError

RENEWED_EVERY = 5.0  # seconds
STALE_AFTER = 30.0  # seconds without a renewal; by the waiter's own clock, for clocks of machines differ
LONGEST_PAUSE = 2.0  # seconds between two looks of a waiter
_FIRST_PAUSE = 0.05

_log = logging.getLogger(__name__)


class AtWork(InputError):
    """Another run of the same name is at work."""


@contextmanager
def claimed(files: Files, kind: str, key: str, is_made: Callable[[], bool]) -> Iterator[None]:
    """Claims the making of an artifact; where another has claimed it, waits until it is made or the claim is stale.

    Args:
        files: those of the store.
        is_made: whether the artifact is there.

    Raises:
        InputError: the store fails.
    """
    claim = _Claim(files, f".claims/{kind}-{key}.json")
    if not claim.take():
        said = partial(_log.warning, "waiting for %s artifact %s: another process makes it", kind, key[:12])
        _wait(claim, said, is_made)
    try:
        yield
    finally:
        claim.release()


@contextmanager
def one_at_a_time(files: Files, run: str, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Has runs of one name come one after the other, whatever machines they are on.

    Args:
        files: those of the store.
        run: the name, such as curate-verses.
        wait: until the run at work has ended; else `AtWork` is raised while there is one.
        on_wait: is told once who is at work, where this has to wait.

    Raises:
        AtWork: another run of that name is at work, and this one does not wait.
        InputError: the store fails.
    """
    claim = _Claim(files, f".claims/run-{run}.json")
    if not claim.take():
        if wait:
            _wait(claim, lambda: on_wait(_owner(claim.read())), lambda: False)
        else:
            _take_if_stale(claim, run)
    try:
        yield
    finally:
        claim.release()


def _take_if_stale(claim: _Claim, run: str) -> None:
    """Takes over from one who is no more; the claim of one who lives is renewed before it counts as stale."""
    seen, since = claim.read(), time.monotonic()
    while seen is not None and not _is_of_dead_process(seen) and time.monotonic() - since <= STALE_AFTER:
        if claim.read() != seen:
            raise AtWork(f"another run of {run} is at work ({_owner(seen)}), so this one does nothing")
        time.sleep(LONGEST_PAUSE / 4)
    claim.drop(seen)
    if not claim.take():
        raise AtWork(f"another run of {run} has just begun ({_owner(claim.read())}), so this one does nothing")


def renewed_claims(files: Files, kind: str) -> dict[str, datetime]:
    """The keys of that kind's artifacts that are claimed, and when each claim was last written by the store's clock.

    Raises:
        InputError: the store fails.
    """
    start, end = f".claims/{kind}-", ".json"
    claims = [file for file in files.list(".claims") if file.name.startswith(start) and file.name.endswith(end)]
    return {claim.name.removeprefix(start).removesuffix(end): claim.modified for claim in claims}


def _wait(claim: _Claim, on_wait: Callable[[], None], is_made: Callable[[], bool]) -> None:
    """Returns when it is made, or the claim is ours: it was released, or not renewed by who had it."""
    last, since, pause = claim.read(), time.monotonic(), _FIRST_PAUSE
    while not is_made():
        now = claim.read()
        if now != last:
            last, since = now, time.monotonic()
        if last is None or _is_of_dead_process(last) or time.monotonic() - since > STALE_AFTER:
            claim.drop(last)
            if claim.take():
                return
        if pause == _FIRST_PAUSE:
            on_wait()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


@dataclass
class _Claim:
    """One process's claim, or its wish for one."""

    files: Files
    name: str

    def __post_init__(self) -> None:
        self._owner = {"owner": uuid.uuid4().hex, **_this_process()}
        self._released = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> bool:
        """Whether it is ours now; then it is renewed until it is released."""
        # A try that was repeated may have met what it wrote itself: so who is in it counts.
        if not self.files.create(self.name, self._content(0)) and not self._is_ours():
            return False
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()
        return True

    def read(self) -> bytes | None:
        """What the claim says now, whosever it is; None where there is none."""
        try:
            content = self.files.read(self.name)
            # Damaged on its way, it may be right the next time.
            return content if _said(content) else self.files.read(self.name)
        except FileNotFoundError:
            return None

    def drop(self, seen: bytes | None) -> None:
        """Removes a stale claim, unless another took it over meanwhile."""
        if seen is not None and self.read() == seen:
            self.files.remove([self.name])

    def release(self) -> None:
        """Ends it, where it is ours."""
        if self._renewing is None:
            return
        self._released.set()
        self._renewing.join()
        if self._is_ours():
            self.files.remove([self.name])

    def _renew(self) -> None:
        renewals = 0
        while not self._released.wait(RENEWED_EVERY):
            renewals += 1
            try:
                if not self._is_ours():
                    return  # another took it for stale
                self.files.write(self.name, self._content(renewals))
            except InputError as error:
                _log.warning("a claim is not renewed, others may do the same work: %s", error)
                return

    def _content(self, renewals: int) -> bytes:
        return json.dumps({**self._owner, "renewals": renewals}).encode()

    def _is_ours(self) -> bool:
        content = self.read()
        return content is not None and _said(content).get("owner") == self._owner["owner"]


def _this_process() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _is_of_dead_process(content: bytes) -> bool:
    """Whether a process of this machine wrote it that is no more."""
    said = _said(content)
    if said.get("host") != socket.gethostname() or not isinstance(said.get("pid"), int):
        return False
    try:
        process = psutil.Process(said["pid"])
        dead = process.status() == psutil.STATUS_ZOMBIE
        return dead or abs(process.create_time() - said["started"]) > 2  # else its number went to another
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _owner(content: bytes | None) -> str:
    """Who claimed it, for people."""
    said = _said(content) if content else {}
    return f"process {said.get('pid', 'unknown')} on {said.get('host', 'unknown')}"


def _said(content: bytes) -> dict[str, object]:
    """What a claim says; nothing where it was damaged on its way."""
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
