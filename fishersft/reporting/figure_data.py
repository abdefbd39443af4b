"""The data behind each figure, as rows of a CSV file, and what each figure says, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from fishersft.reporting.summary import RunReport, TrainingFacts
from fishersft.reporting.text import count, interval, number

LENGTH_BINS = 30
Row = dict[str, Any]


def gain_rows(report: RunReport) -> list[Row]:
    """Cumulative information gain after every pick of every selection."""
    return [
        {"method": facts.method, "sentences": pick, "tokens": tokens, "information_gain_nats": gain}
        for facts in report.selections
        for pick, (tokens, gain) in enumerate(zip(facts.tokens, facts.information_gain, strict=True), start=1)
    ]


def length_edges(report: RunReport) -> np.ndarray:
    """Edges of equal bins of whole tokens that hold the pool and every selection, float64 (bins + 1,)."""
    lengths = [*report.pool_lengths, *(n for facts in report.selections for n in facts.lengths)]
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // LENGTH_BINS)
    return np.arange(low, high + width + 1, width) - 0.5


def length_rows(report: RunReport) -> list[Row]:
    """For the pool and every selection, the share of its sentences in each bin of tokens."""
    groups = [("pool", report.pool_lengths), *((facts.method, facts.lengths) for facts in report.selections)]
    groups = [(name, lengths) for name, lengths in groups if lengths]
    if not groups:
        return []
    edges = length_edges(report)
    return [
        {"group": name, "from_tokens": int(low + 0.5), "to_tokens": int(high - 0.5), "sentences": int(n),
         "share": n / len(lengths)}
        for name, lengths in groups
        for low, high, n in zip(edges[:-1], edges[1:], np.histogram(lengths, edges)[0], strict=True)
    ]  # fmt: skip


def perplexity_rows(report: RunReport) -> list[Row]:
    """Held-out perplexity of every model with its 95% interval."""
    return [{"method": facts.method, **facts.perplexity.model_dump()} for facts in report.likelihoods]


def win_rate_rows(report: RunReport) -> list[Row]:
    """For every pair that was judged, the win rate and how often the completion shown first was chosen."""
    return [
        {"method": item.method, "other": item.other, "measure": measure, **estimate.model_dump()}
        for item in report.win_rates
        for measure, estimate in (("win rate", item.rate), ("first shown is chosen", item.first_chosen))
    ]


def loss_rows(report: RunReport) -> list[Row]:
    """Training loss by optimiser step of every fine-tuning run, and held-out loss where it was measured."""
    return [
        {"method": facts.method, "sentences": sentences, "step": step, "loss_nats_per_token": loss}
        for facts in report.trainings
        for sentences, losses in (("training", facts.losses), ("held out", facts.held_out_losses))
        for step, loss in losses
    ]


def describe_gain(report: RunReport) -> str:
    """Where every curve of the information gain ends."""
    return "; ".join(
        f"{facts.method}: {number(facts.information_gain[-1], 1)} nats from "
        f"{count(len(facts.information_gain))} sentences of together {count(facts.tokens[-1])} tokens"
        for facts in report.selections
        if facts.information_gain
    )


def describe_lengths(report: RunReport) -> str:
    """The median length of the pool and of every selection."""
    groups = [("pool", report.pool_lengths), *((facts.method, facts.lengths) for facts in report.selections)]
    return "; ".join(
        f"{name}: half of the sentences have {number(float(np.median(lengths)), 0)} tokens or fewer"
        for name, lengths in groups
        if lengths
    )


def describe_perplexity(report: RunReport) -> str:
    """Every model's perplexity and interval."""
    return "; ".join(f"{facts.method}: {interval(facts.perplexity, 1)}" for facts in report.likelihoods)


def describe_win_rates(report: RunReport) -> str:
    """Every pair's win rate and position bias."""
    return "; ".join(
        f"{item.method} wins against {item.other}: {interval(item.rate)}, "
        f"the first shown is chosen: {interval(item.first_chosen)}"
        for item in report.win_rates
    )


def describe_losses(report: RunReport) -> str:
    """The first and last training loss of every run, and the least held-out loss where it was measured."""
    return "; ".join(
        f"{facts.method}: from {number(facts.losses[0][1])} to {number(facts.losses[-1][1])} nats a token "
        f"in {count(facts.steps)} steps{_least_held_out(facts)}"
        for facts in report.trainings
        if facts.losses
    )


def _least_held_out(facts: TrainingFacts) -> str:
    if not facts.held_out_losses:
        return ""
    step, loss = min(facts.held_out_losses, key=lambda measured: measured[1])
    return f", held out at best {number(loss)} after step {count(step)}"
