"""Files of this machine that are whole or not there, and on the disk when they should be."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """A local file that has its name only when it is whole; `write` gets the path to write to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    try:
        write(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def create_whole(target: Path, content: bytes) -> bool:
    """Writes a file where there is none of that name; whether there was none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    try:
        write_synced(partial, content)
        os.link(partial, target)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    path.write_bytes(content)
    sync(path)


def copy_synced(source: Path, target: Path) -> None:
    """Copies a file and waits until it is on the disk."""
    shutil.copyfile(source, target)
    sync(target)


def sync(path: Path) -> None:
    """Waits until a local file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
