"""What tests do to processes that they started."""

from __future__ import annotations

import psutil


def kill(pid: int) -> None:
    """Kills a process and all that it started."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        process.kill()
    psutil.wait_procs(family)
