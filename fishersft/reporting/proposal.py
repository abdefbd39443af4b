"""What a run would train on, as data and as Markdown: what somebody sees who has to approve it."""

from __future__ import annotations

from dataclasses import dataclass

from fishersft.reporting.summary import ChosenRow
from fishersft.reporting.text import count, number


@dataclass(frozen=True)
class Proposal:
    """What would be trained on.

    Attributes:
        unit: what the budget counts.
        budget: in that unit.
        ids: of all chosen examples, in the order chosen.
        rows: the first of them, as shown to people.
        tokens: loss tokens of all of them.
        steps: optimiser steps of one training.
        seconds: about how long both trainings take, by how fast embedding was; None where another model is trained.
        money: what these seconds cost, in the currency of `approval.price_per_hour`; None without a price.
    """

    unit: str
    budget: int
    ids: list[str]
    rows: list[ChosenRow]
    tokens: int
    steps: int
    seconds: float | None
    money: float | None


def proposal_markdown(proposal: Proposal) -> str:
    """What would be trained on and what that costs, and how to answer."""
    rows = [
        ("Budget", f"{count(proposal.budget)} {proposal.unit}"),
        ("Chosen", f"{count(len(proposal.ids))} sentences, {count(proposal.tokens)} tokens"),
        ("Optimiser steps", f"{count(proposal.steps)}, and as many for the uniform choice beside it"),
        ("Both trainings take about", _duration(proposal.seconds)),
    ]
    if proposal.money is not None:
        rows.append(("They cost about", number(proposal.money)))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"# Train on this?\n\n| What | How much |\n| :--- | :--- |\n{table}\n\n"
        "**Resume** the run, from the menu at the top right of its page, to approve it, change the budget, exclude "
        "examples, or reject it. The table of chosen examples, next to this, has the ids and ranks to exclude by.\n"
    )


def _duration(seconds: float | None) -> str:
    """Seconds as people read them; by how fast embedding was, it is an estimate."""
    if seconds is None:
        return "not known, as another model is trained than the one that chose"
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
