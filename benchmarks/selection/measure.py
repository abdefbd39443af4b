"""Measuring a piece of work: one run in a process of its own, after a warm-up, with its peak memory.

A process of its own for each, because numpy's threads spin for a while after use and halve the speed of torch beside
them, and because a peak can be told apart from what ran before only in a fresh process.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        seconds: wall clock.
        memory: bytes at the peak beyond what was held before: imports and data. None where it cannot be told.
        resident: bytes at the peak of the whole process, its data included; None likewise.
        picks: what was chosen, in order.
        facts: other figures of the run.
    """

    seconds: float
    memory: int | None
    resident: int | None
    picks: list[int] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def in_fresh_process(job: Callable[..., T], *arguments: Any) -> T:
    """The result of job(*arguments) in a new interpreter; `job` is a function of a module.

    Raises:
        BrokenProcessPool: the process was killed, most often for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(job, *arguments).result()


def measure(work: Callable[[], T]) -> tuple[T, Measured]:
    """Runs the work once; its result, and its seconds and memory."""
    _give_memory_back()
    _forget_peak()
    before = _status("VmRSS")
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    peak = _status("VmHWM")
    memory = None if peak is None or before is None else max(0, peak - before)
    return result, Measured(seconds, memory, peak)


def _give_memory_back() -> None:
    """Return to the system what was freed: the work would use it again, and its memory would not show."""
    gc.collect()
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "malloc_trim"):  # glibc
        c_library.malloc_trim(0)


def _forget_peak() -> None:
    """Linux: let the peak of this process start anew from what it holds now."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(entry: str) -> int | None:
    """VmRSS (resident now) or VmHWM (at the peak) of this process in bytes; None without a Linux /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    kilobytes = next((line.split()[1] for line in lines if line.startswith(f"{entry}:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024
