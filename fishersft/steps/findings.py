"""From the artifacts of a run to what it found: figures with intervals and verdicts in plain words."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from fishersft.data.store import Store
from fishersft.numerics import pair_scores, perplexity_interval, perplexity_ratio_interval, wilson_interval
from fishersft.reporting.summary import Comparison, Interval, LikelihoodFacts, WinRate

_MANY_FIRST = 0.75


def likelihood_facts(store: Store, method: str, evaluation: str) -> LikelihoodFacts:
    """A model's held-out perplexity, and the mean nats per token of the worst tenth of the sentences."""
    nll, tokens = _nll(store, evaluation)
    per_token = np.sort(nll / tokens)
    worst = per_token[-max(1, len(per_token) // 10) :]
    return LikelihoodFacts(
        method=method,
        sentences=len(nll),
        tokens=int(tokens.sum()),
        perplexity=_interval(perplexity_interval(nll, tokens)),
        worst_decile_nats=float(worst.mean()),
    )


def compare_likelihoods(
    store: Store, method: str, evaluation: str, other: str, other_evaluation: str, basis: str
) -> Comparison:
    """The ratio of two models' perplexities, paired over the held-out sentences.

    Args:
        basis: what is equal between the two, such as "at equal tokens and steps".
    """
    nll, tokens = _nll(store, evaluation)
    other_nll, _ = _nll(store, other_evaluation)
    ratio = _interval(perplexity_ratio_interval(nll, other_nll, tokens))
    if ratio.high < 1:
        verdict = f"{method} is better than {other} {basis}: perplexity {_percent(1 - ratio.value)} lower"
    elif ratio.low > 1:
        verdict = f"{method} is worse than {other} {basis}: perplexity {_percent(ratio.value - 1)} higher"
    else:
        verdict = f"no difference in perplexity was shown between {method} and {other} {basis}"
    return Comparison(method=method, other=other, perplexity_ratio=ratio, verdict=verdict)


def win_rate(store: Store, method: str, other: str, judgements: str) -> WinRate:
    """How often the judge preferred a method's completions; a preference that turns with the order is a tie.

    How often the first text was named counts a pair at a time, as its two answers are not independent, and only pairs
    both of whose answers name a text.
    """
    columns = {
        name: np.array(values, dtype=np.int8)
        for name, values in pq.read_table(store.fetch("judgements", judgements) / "judgements.parquet")
        .to_pydict()
        .items()
    }
    differ, readable = columns["identical"] == 0, (columns["identical"] == 0) & (columns["unreadable"] == 0)
    choices, swapped = columns["choice"], columns["swapped_choice"]
    scores = pair_scores(choices[differ], swapped[differ])
    rate = _share(scores)
    first = _share(((choices[readable] == 1).astype(float) + (swapped[readable] == 1)) / 2)
    if not len(scores):
        verdict = f"{method} and {other} wrote the same, so there was nothing to judge"
    elif rate.low > 0.5:
        verdict = f"the judge prefers {method} to {other}"
    elif rate.high < 0.5:
        verdict = f"the judge prefers {other} to {method}"
    else:
        verdict = f"the judge showed no preference between {method} and {other}"
    return WinRate(
        method=method,
        other=other,
        prompts=len(scores),
        wins=int((scores == 1).sum()),
        losses=int((scores == 0).sum()),
        ties=int((scores == 0.5).sum()),
        rate=rate,
        first_chosen=first,
        identical=int((~differ).sum()),
        unreadable=int(columns["unreadable"].sum()),
        verdict=verdict,
    )


def judge_warning(rates: list[WinRate]) -> str | None:
    """A warning when the judge mostly went by the place of a text; None when it did not."""
    trials = sum(rate.prompts for rate in rates)
    if not trials:
        return None
    first = sum(rate.first_chosen.value * rate.prompts for rate in rates) / trials
    if 1 - _MANY_FIRST < first < _MANY_FIRST:
        return None
    return (
        f"The judge chose the first text {_percent(first)} of the time: it goes by place rather than by content, and "
        "its win rates say little. Name a stronger one in evaluation.judging.judges."
    )


def _share(scores: np.ndarray) -> Interval:
    """The mean of scores in [0, 1] with Wilson's interval; all of [0, 1] where there are none."""
    if not len(scores):
        return Interval(value=0.5, low=0.0, high=1.0)
    return _interval(wilson_interval(float(scores.sum()), len(scores)))


def _nll(store: Store, evaluation: str) -> tuple[np.ndarray, np.ndarray]:
    columns = pq.read_table(store.fetch("evaluation", evaluation) / "nll.parquet").to_pydict()
    return np.array(columns["nll"]), np.array(columns["tokens"])


def _interval(figures: tuple[float, float, float]) -> Interval:
    value, low, high = figures
    return Interval(value=value, low=low, high=high)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
