"""The settings of approval: whether somebody has to agree before anything is trained."""

from __future__ import annotations

from typing import Literal

from fishersft.config.fields import Section, described


class ApprovalConfig(Section):
    """Whether a run pauses once it has chosen, until somebody approves the choice in Prefect's UI."""

    wanted: bool = described(
        False,
        0,
        "Wanted",
        "Pause after the selection and show what would be trained on and what that costs. Whoever resumes the run in "
        "the UI approves, rejects, or changes the budget and excludes examples.",
    )
    minutes: int = described(1440, 1, "Minutes to answer", "How long the run waits for an answer.", ge=1)
    on_timeout: Literal["stop", "go on"] = described(
        "stop",
        2,
        "Without an answer",
        "stop: the run is cancelled. go on: it trains on what it has chosen, as if that had been approved.",
    )
    price_per_hour: float | None = described(
        None, 3, "Price an hour", "Of the machine, in your currency, for the estimate shown; empty: seconds only.", ge=0
    )
