"""What all tasks have in common: a name that tells, and another try where that is worth it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from fishersft.errors import StorageError

RETRIES = 3
FIRST_PAUSE = 10.0  # seconds, doubled after every try
_WORTH_A_RETRY = (StorageError, ConnectionError, TimeoutError, httpx.TransportError)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def step(name: str) -> Callable[[Callable[Parameters, Result]], Task[Parameters, Result]]:
    """Makes a function a task of that name, which is done again where storage or a connection failed.

    Bad input fails at once. The store tries each request several times by itself, so that what comes here has failed
    for some ten seconds already.

    Args:
        name: of the task's runs; may hold parameters, such as "embed shard {number}".
    """
    return task(
        task_run_name=name,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(FIRST_PAUSE),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_worth_a_retry,
    )


def is_worth_a_retry(_task: Task[..., Any], _run: TaskRun, state: State) -> bool:
    """Whether what ended in that state failed for a reason that may pass."""
    return isinstance(state.result(raise_on_failure=False), _WORTH_A_RETRY)
