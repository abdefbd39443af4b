"""Folders in which artifacts are made, each locked by the process that makes one: so what the dead left is known."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fishersft.data.local_files import sync


@contextmanager
def draft_folder(drafts: Path, kind: str) -> Iterator[Path]:
    """A new folder below `drafts`, gone at the end; those that processes left that are no more are removed."""
    drafts.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(drafts)
    folder, lock = _locked_folder(drafts, kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def put_draft(folder: Path, target: Path) -> None:
    """Moves a draft to the place of its content, on the disk when this returns."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    for path in [*(folder / name for name in names), *folders]:
        sync(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Files of the same content are there, from another writer or a publication cut short: refresh them.
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, target / name)
            sync((target / name).parent)
    sync(target.parent)
    sync(target.parent.parent)


def _locked_folder(drafts: Path, kind: str) -> tuple[Path, int]:
    while True:
        folder = drafts / f"{kind}-{uuid.uuid4().hex}"
        folder.mkdir()
        with suppress(FileNotFoundError):  # between the two lines, another process may take it for abandoned
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(drafts: Path) -> None:
    for folder in drafts.iterdir():
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            except BlockingIOError:
                continue  # its process lives
            finally:
                os.close(lock)
