"""A run that is lost again and again comes to an end; a person's Retry starts the count anew."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Crashed, Failed, Pending, Running, Scheduled

from tasks.guard import LOST, MOST_LOSSES, losses


def lost_start() -> list[State]:
    return [Pending(), Running(), Crashed(name=LOST), Scheduled(name="Rescheduled")]


def test_each_lost_start_counts() -> None:
    assert losses([Scheduled(), Pending(), Running()]) == 0
    assert losses([Scheduled(), *lost_start(), *lost_start(), Pending(), Running()]) == 2


def test_waiting_for_a_slot_or_being_late_in_between_does_not_start_the_count_anew() -> None:
    between = [Scheduled(name="AwaitingConcurrencySlot"), Scheduled(name="Late")]
    assert losses([Scheduled(), *lost_start(), *between, *lost_start(), Pending(), Running()]) == 2


def test_a_retry_by_hand_starts_the_count_anew() -> None:
    before = [state for _ in range(MOST_LOSSES + 1) for state in lost_start()]
    assert losses([Scheduled(), *before, Running()]) == MOST_LOSSES + 1
    assert losses([Scheduled(), *before, Failed(), AwaitingRetry(), Pending(), Running()]) == 0
