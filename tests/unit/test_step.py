"""Which failures are worth another try, and that tasks have it."""

from __future__ import annotations

import httpx
import pytest
from prefect.states import Failed

from fishersft.errors import InputError, StorageError
from tasks import comparison, curation, fan_out
from tasks.step import RETRIES, is_worth_a_retry, step


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StorageError("the object store cannot be reached"), True),
        (ConnectionResetError("by peer"), True),
        (TimeoutError("no answer"), True),
        (httpx.ConnectError("refused"), True),
        (InputError("corpus.path: no such file"), False),
        (ValueError("token block 17 has dim 768"), False),
        (PermissionError("access denied"), False),
    ],
)
def test_storage_and_connections_are_worth_another_try_and_bad_input_is_not(error: Exception, again: bool) -> None:
    @step("fail")
    def fail() -> None:
        raise error

    assert is_worth_a_retry(fail, None, Failed(data=error)) is again  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [curation, comparison, fan_out])
def test_every_task_of_a_run_may_be_tried_again(module: object) -> None:
    from prefect import Task

    tasks = [task for task in vars(module).values() if isinstance(task, Task)]
    assert tasks
    for task in tasks:
        assert (task.retries, task.retry_condition_fn) == (RETRIES, is_worth_a_retry), task.name
