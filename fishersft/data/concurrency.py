"""Doing the same for many things at once, where that is mostly waiting for a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(action: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """What `action` gives for each item, in their order; the first error ends it, as does a consumer that stops."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(action, items)
    finally:
        pool.shutdown(cancel_futures=True)
