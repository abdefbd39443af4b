"""A run that waits for approval, against a real server: what is answered, what no answer means, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Cancelled

from fishersft.config import CurateConfig
from fishersft.errors import InputError
from fishersft.reporting.proposal import Proposal
from fishersft.steps.outcome import Outcome
from tasks import approval
from tasks.approval import NotApproved, approved, check_approval
from tests.prefect_server import PrefectServer, until

pytestmark = pytest.mark.server
IDS = [f"{n:012x}" for n in range(10, 16)]


def config(**settings: Any) -> CurateConfig:
    return CurateConfig.model_validate(
        {
            "name": "asked",
            "corpus": {"path": "x"},
            "selection": {"budget": "6 examples"},
            "approval": {"wanted": True, **settings},
        }
    )


def choice(of: CurateConfig) -> Outcome:
    """What settings choose here: all but what they exclude."""
    key = f"{of.selection.budget:012x}{len(of.selection.exclude):052x}"
    return Outcome("selection", key, False, 0.0, {})


def proposal(of: CurateConfig, chosen: Outcome) -> Proposal:
    left = [name for name in IDS if name not in of.selection.exclude]
    return Proposal("sentences", of.selection.budget, left, [], 100, 2, 1.0, None)


@flow(flow_run_name="asking")
def asking(config: CurateConfig) -> Any:
    """The part of a curation run in which somebody is asked; what it goes on with."""
    try:
        agreed, chosen = approved(config, choice(config), proposal, choice)
    except NotApproved as why:
        return Cancelled(message=str(why), data=why)
    return agreed.selection.budget, agreed.selection.exclude, chosen.key


class Asked:
    """Runs of `asking`, whose questions other threads answer."""

    def __init__(self, server: PrefectServer) -> None:
        self.server = server

    def paused(self) -> list[str]:
        body = {"flow_runs": {"state": {"name": {"any_": ["Paused"]}}, "name": {"any_": ["asking"]}}}
        return [run["id"] for run in self.server.post("flow_runs/filter", body)]

    def answer(self, *answers: dict[str, Any]) -> None:
        for given in answers:
            until(self.paused, "a run asks")
            (run,) = self.paused()
            body = {"run_input": {"decision": "approve", "budget": 6, "exclude": [], **given}}
            answered = self.server.post(f"flow_runs/{run}/resume", body)
            assert answered["status"] == "ACCEPT", answered
            until(
                lambda run=run, state=answered["state"]["id"]: self.state_id(run) != state or not self.paused(),
                "it goes on",
            )

    def state_id(self, run: str) -> str:
        return self.server.get(f"flow_runs/{run}")["state_id"]

    def run(self, config: CurateConfig, *answers: dict[str, Any]) -> State[Any]:
        answering = threading.Thread(target=self.answer, args=answers)
        answering.start()
        state = asking(config, return_state=True)
        answering.join()
        return state


@pytest.fixture
def asked(prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr(approval, "POLL_SECONDS", 0.3)
    monkeypatch.setattr(approval, "show_proposal", lambda config, proposal: None)
    # Logs would be sent until this process ends, and the server ends before it.
    with temporary_settings({PREFECT_API_URL: prefect_server.api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield Asked(prefect_server)


def test_an_approved_run_goes_on_with_the_changes(asked: Asked) -> None:
    budget, exclude, key = asked.run(config(), {"budget": 4, "exclude": ["2"]}).result()
    assert (budget, exclude) == (4, [IDS[1]])
    assert key.startswith(f"{4:012x}")


@pytest.mark.long
def test_a_changed_choice_is_shown_again_where_that_is_asked_for(asked: Asked) -> None:
    first, second = {"decision": "show again", "exclude": [IDS[0]]}, {"exclude": ["1"]}
    assert asked.run(config(), first, second).result()[1] == [IDS[0], IDS[1]]


@pytest.mark.long
def test_an_answer_that_cannot_be_followed_is_asked_for_again(asked: Asked) -> None:
    assert asked.run(config(), {"exclude": ["99"]}, {"budget": 5}).result()[:2] == (5, [])


def test_a_rejected_run_is_cancelled_and_says_so(asked: Asked) -> None:
    state = asked.run(config(), {"decision": "reject"})
    assert state.is_cancelled() and str(state.message).startswith(
        "Not approved: it was rejected, so nothing was trained"
    )
    with pytest.raises(NotApproved, match="it was rejected"):
        state.result()


def test_without_an_answer_the_run_stops_or_goes_on_as_its_settings_say(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "MINUTE", 1)
    stopped = asked.run(config(minutes=1))
    assert stopped.is_cancelled() and "nobody answered within 1 min" in str(stopped.message)
    assert asked.run(config(minutes=1, on_timeout="go on")).result()[:2] == (6, [])


@pytest.mark.long
def test_a_run_that_is_started_again_is_not_asked_what_it_was_answered(asked: Asked) -> None:
    done = asked.run(config(), {"budget": 4})
    run = UUID(str(done.state_details.flow_run_id))
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    asked.server.post(f"flow_runs/{run}/set_state", again)
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run)
    state = run_flow(asking, flow_run=flow_run, parameters={"config": config()}, return_type="state")
    assert state.result()[0] == 4


def test_where_nobody_could_answer_the_run_refuses_to_start() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        with pytest.raises(InputError, match=r"approval\.wanted needs a Prefect server, in whose UI somebody answers"):
            check_approval(config())
        check_approval(config(wanted=False))
