"""How many threads the numerical libraries use: many small products gain more from a thread each than from sharing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold numpy's and scipy's BLAS to one thread: theirs spin on when they are done, and slow all else by half."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def torch_threads(number: int) -> Iterator[int]:
    """Let torch use so many threads; gives how many they were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def one_thread_each(workers: int) -> ThreadPoolExecutor:
    """Threads that each compute alone; the calling thread does so too, until torch is told another number.

    MKL knows one number of threads for all: it is 1 for the whole process until it is set again.
    """
    started = Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    executor = ThreadPoolExecutor(workers, thread_name_prefix="one-thread")
    for _ in range(workers):
        executor.submit(start)
    start()
    return executor
