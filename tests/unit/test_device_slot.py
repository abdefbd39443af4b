"""What computes on a device holds a slot of the limit that the machine names; its threads hold one together."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.testing.utilities import prefect_test_harness

from deployments.pools import GLOBAL_LIMITS, register_limits
from fishersft.config import CurateConfig
from fishersft.errors import InputError
from tasks import devices

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    """A server for this module with a limit of one slot, and one of none."""
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
        for name, slots in (("one-gpu", 1), ("no-gpu", 0)):
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
        yield


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "one-gpu")


def slots_taken() -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name("one-gpu").active_slots


def test_a_function_holds_a_slot_while_it_computes(limited: None) -> None:
    assert devices.on_device(slots_taken)() == 1
    assert slots_taken() == 0


def test_the_threads_of_a_process_hold_one_slot_together_and_the_last_gives_it_back(limited: None) -> None:
    both, seen = threading.Barrier(2), list[int]()

    @devices.on_device
    def compute(rounds: int) -> None:
        both.wait(timeout=60)
        for _ in range(rounds):
            seen.append(slots_taken())

    threads = [threading.Thread(target=compute, args=(rounds,)) for rounds in (1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert seen == [1] * 6
    assert slots_taken() == 0


def test_the_slot_is_given_back_where_computing_fails(limited: None) -> None:
    @devices.on_device
    def fail() -> None:
        raise InputError("too long")

    with pytest.raises(InputError, match="too long"):
        fail()
    assert slots_taken() == 0


def test_a_judge_behind_an_endpoint_holds_no_slot_and_a_local_one_does(limited: None) -> None:
    judges = [{"model": "big", "base_url": "http://127.0.0.1:9/v1"}, {"model": "small"}]
    config = CurateConfig.model_validate({"corpus": {"path": "a.txt"}, "evaluation": {"judging": {"judges": judges}}})
    with devices.slot_of_judge(config, 0):
        assert slots_taken() == 0
    with devices.slot_of_judge(config, 1):
        assert slots_taken() == 1


def test_without_a_limit_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    devices.check_device_limit()
    assert devices.on_device(slots_taken)() == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [("a-gpu", "no such global concurrency limit; create it with"), ("no-gpu", "a limit of 0 slots, so nothing could")],
)
def test_a_limit_that_cannot_be_had_is_one_clear_error(name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, name)
    with pytest.raises(InputError, match=told):
        devices.check_device_limit()


def test_deploying_creates_a_limit_of_one_slot_and_leaves_one_that_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (name,) = GLOBAL_LIMITS
    monkeypatch.setenv(devices.VARIABLE, name)
    with get_client(sync_client=True) as client:
        assert [change.what for change in register_limits(client)] == ["made"]
        devices.check_device_limit()
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=2))
        assert [change.what for change in register_limits(client)] == ["unchanged"]
        assert client.read_global_concurrency_limit_by_name(name).limit == 2
