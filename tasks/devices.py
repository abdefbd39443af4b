"""How many processes compute on this machine's devices at once, where an operator limits it.

The environment variable FISHERSFT_DEVICE_LIMIT of a worker (or of a work pool's jobs) names a global concurrency limit
of Prefect. It belongs to the machine and not to the run, as a run's sub-runs compute on other machines.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import ParamSpec, TypeVar

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from fishersft.config import CurateConfig
from fishersft.errors import InputError

VARIABLE = "FISHERSFT_DEVICE_LIMIT"
LEASE_SECONDS = 90.0  # after which the slot of a killed process is free again; the server asks for 60 at least

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def check_device_limit() -> None:
    """Looks whether the limit that this machine names is there, before any work.

    Raises:
        InputError: Prefect's server has no such limit, or one of no slots.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name).limit
        except ObjectNotFound as error:
            raise InputError(
                f"{VARIABLE} is {name}, but Prefect's server has no such global concurrency limit; create it with "
                f"`prefect gcl create {name} --limit 1`, or unset the variable"
            ) from error
    if limit < 1:
        raise InputError(
            f"{VARIABLE} is {name}, a limit of {limit} slots, so nothing could ever compute; raise it with "
            f"`prefect gcl update {name} --limit 1`, or unset the variable"
        )


def on_device(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Has a function compute while its process holds a slot; without a limit it just computes."""

    @functools.wraps(function)
    def limited(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        with _slot.held():
            return function(*arguments, **options)

    return limited


def slot_of_judge(config: CurateConfig, judge: int) -> AbstractContextManager[None]:
    """A slot for the judge in that place of the config; none for one that computes elsewhere."""
    local = config.evaluation.judging.judges[judge].base_url is None
    return _slot.held() if local else nullcontext()


class _Slot:
    """The process's one slot: taken by the first of its threads that computes, given back by the last.

    The threads of a process share models and devices, so they count as one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._taken = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        name = os.environ.get(VARIABLE)
        if not name:
            yield
            return
        with self._lock:
            if not self._users:
                self._taken.enter_context(_lease(name))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._taken.close()


def _lease(name: str) -> AbstractContextManager[None]:
    """A slot of that limit, which has to exist; work goes on where a server that is away cannot renew it."""
    return concurrency(name, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False)


_slot = _Slot()
