"""People in the loop: a run pauses, shows what it would train on, and goes on as somebody answers in Prefect's UI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from itertools import count
from typing import Literal
from uuid import UUID

from prefect import get_run_logger
from prefect.exceptions import NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.input.actions import delete_flow_run_input, read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for
from pydantic import create_model

from fishersft.config import CurateConfig
from fishersft.config.fields import described
from fishersft.errors import InputError
from fishersft.reporting.proposal import Proposal
from fishersft.steps.models import release_models
from fishersft.steps.outcome import Outcome
from fishersft.steps.proposal import changed_choice
from tasks.ui import show_proposal

POLL_SECONDS = 3
MINUTE = 60  # seconds
_GRACE_SECONDS = 600  # the server waits longer than we do, for the end of our wait is an answer too


class NotApproved(InputError):
    """A run ends because nobody approved what it had chosen."""


class Answer(RunInput):
    """What somebody who resumes the run says: the form that Prefect's UI shows."""

    decision: Literal["approve", "show again", "reject"] = described(
        "approve",
        0,
        "Decision",
        "approve: train, with the changes below if there are any. show again: make the changes, choose anew and ask "
        "again. reject: cancel the run.",
    )
    budget: int = described(..., 1, "Budget", "Another number chooses anew.", ge=1)
    exclude: list[str] = described(
        [], 2, "Exclude", "Ids or ranks, from the table of chosen examples, that are not to be trained on."
    )


def check_approval(config: CurateConfig) -> None:
    """Fails before any work where somebody is to be asked whom nobody could answer.

    Raises:
        InputError: the run has no server with a UI.
    """
    if config.approval.wanted and PREFECT_API_URL.value() is None:
        raise InputError(
            "approval.wanted needs a Prefect server, in whose UI somebody answers; start one with `prefect server "
            "start` and set PREFECT_API_URL, or run with approval.wanted=false"
        )


def approved(
    config: CurateConfig,
    chosen: Outcome,
    propose: Callable[[CurateConfig, Outcome], Proposal],
    select: Callable[[CurateConfig], Outcome],
) -> tuple[CurateConfig, Outcome]:
    """The settings and the selection as somebody approved them; as they are, where nobody is to be asked.

    A run that is started again takes the answers that it was given before, as long as it chooses the same.

    Args:
        chosen: what the settings choose.
        propose: what would be trained on.
        select: what other settings choose.

    Raises:
        NotApproved: it was rejected, or nobody answered in time and that stops the run.
    """
    if not config.approval.wanted:
        return config, chosen
    complaint = ""
    for number in count(1):
        proposal = propose(config, chosen)
        show_proposal(config, proposal)
        release_models()  # whoever computes meanwhile needs the memory
        answer = _ask(config, proposal, f"approval-{number}-{chosen.key[:12]}", complaint)
        try:
            changed = changed_choice(config, proposal.ids, answer.budget, answer.exclude)
            if changed != config:
                config, chosen = changed, select(changed)
            if answer.decision == "approve":
                break
            complaint = ""
        except InputError as error:
            complaint = f"The last answer could not be followed: {error}. "
            get_run_logger().warning("%sThe run asks again", complaint)
    return config, chosen


def _ask(config: CurateConfig, proposal: Proposal, key: str, complaint: str) -> Answer:
    """What somebody answers, or was answered before under the same key, or what no answer means."""
    keys = keyset_from_base_key(f"paused-{key}")
    known = read_flow_run_input(keys["response"])
    if known is not None:
        get_run_logger().info("Approved before, by the same run")
        return Answer.model_validate(known)
    _forget(keys["schema"], keys["description"])  # of a pause in which the run was killed
    run = UUID(str(flow_run.id))
    logger, minutes = get_run_logger(), config.approval.minutes
    logger.info(
        "Waiting up to %s min for approval: choose Resume in the menu of %s", f"{minutes:,}", url_for("flow-run", run)
    )
    silence = _Silence(config, run)
    silence.start()
    try:
        patience = MINUTE * minutes + _GRACE_SECONDS
        answer = pause_flow_run(_form(config, proposal, complaint), patience, POLL_SECONDS, key)
    finally:
        silence.cancel()
    logger.info("%s: %s", "Nobody answered in time" if silence.answered else "Answered", answer.decision)
    if answer.decision == "reject":
        _forget(keys["response"])  # whoever starts the run again is asked again
        why = f"nobody answered within {minutes:,} min" if silence.answered else "it was rejected"
        raise NotApproved(f"Not approved: {why}, so nothing was trained; what was computed stays in the store")
    return answer


def _forget(*keys: str) -> None:
    """Deletes those of the run's inputs that there are."""
    for key in keys:
        if read_flow_run_input(key) is not None:
            delete_flow_run_input(key)


def _form(config: CurateConfig, proposal: Proposal, complaint: str) -> type[Answer]:
    """The form with today's budget filled in."""
    unit = config.selection.budget_unit
    told = f"In {unit}; another number chooses anew."
    budget = (int, described(config.selection.budget, 1, "Budget", told, ge=1))
    form = create_model("Answer", __base__=Answer, budget=budget)
    form._description = (
        f"{complaint}Train on these {len(proposal.ids):,} sentences ({proposal.tokens:,} tokens)? "
        "The run's artifacts show them, and what training costs."
    )
    return form


class _Silence(threading.Timer):
    """Gives the answer that no answer means, once the time is over."""

    def __init__(self, config: CurateConfig, run: UUID):
        super().__init__(MINUTE * config.approval.minutes, copy_context().run, (self._resume,))
        self.daemon = True
        self.answered = False
        decision = "approve" if config.approval.on_timeout == "go on" else "reject"
        self._run, self._answer = run, {"decision": decision, "budget": config.selection.budget, "exclude": []}

    def _resume(self) -> None:
        while not self.finished.is_set():  # until it is, nobody else has answered
            self.answered = True
            try:
                resume_flow_run(self._run, run_input=self._answer)
                break
            except NotPausedError:
                self.answered = False
                self.finished.wait(POLL_SECONDS)
