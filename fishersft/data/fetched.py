"""What this machine has fetched from remote stores: copies by content, in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

_UNFINISHED = ("drafts", "checkpoints")  # folders of work, beside those of copies


def cache_folder() -> Path:
    """Where copies lie, and drafts and checkpoints of artifacts of remote stores."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fishersft"


def mark_used(copy: Path) -> None:
    """Notes that a copy is of use now."""
    os.utime(copy)


def forget_unused(older_than: timedelta) -> int:
    """Removes copies that were not of use for so long, whichever store they came from; gives how many."""
    limit = time.time() - older_than.total_seconds()
    folder = cache_folder()
    copies = [path for path in folder.iterdir() if path.name not in _UNFINISHED] if folder.is_dir() else []
    unused = [path for path in copies if path.is_dir() and path.stat().st_mtime < limit]
    for path in unused:
        shutil.rmtree(path)
    return len(unused)
