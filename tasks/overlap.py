"""Two runs of one name at once: the second waits, or does nothing.

Prefect's own limit for a deployment is not used: its slot is a lease that a pause gives back and a restarted server
forgets, and a run whose lease is gone is ended as crashed. It also knows nothing of two deployments that write to one
output.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from prefect import get_run_logger

from fishersft.data.claims import one_at_a_time
from fishersft.data.store import Store


def alone(store: Store, run: str, wait: bool) -> AbstractContextManager[None]:
    """While this is held, no other run of that name is at work with that store.

    Args:
        run: a name such as curate-verses.
        wait: for a run that is at work; else `AtWork` is raised.

    Raises:
        AtWork: another run is at work, and this one does not wait.
        InputError: the store fails.
    """

    def say(owner: str) -> None:
        get_run_logger().info("Waiting for another run of %s to end: %s is at work", run, owner)

    return one_at_a_time(store.files, run, wait, say)
