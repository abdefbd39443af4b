"""From the artifacts of a run to what it found: figures with intervals and verdicts in plain words."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from fishersft.data.store import Store
from fishersft.numerics import (
    pair_scores,
    perplexity_interval,
    perplexity_ratio_interval,
    wilson_interval,
    worst_sentence_interval,
)
from fishersft.numerics.crossed import mean_difference, worst_tenth
from fishersft.reporting.summary import (
    Comparison,
    Interval,
    LikelihoodFacts,
    OverlapFacts,
    TaskFigure,
    TaskScore,
    WinRate,
)

_MANY_FIRST = 0.75


def likelihood_facts(store: Store, method: str, evaluation: str, base: str) -> LikelihoodFacts:
    """A model's held-out perplexity, and the nats per token of the worst tenth of the sentences and of the worst.

    Args:
        evaluation, base: keys of the evaluations of the model and of the base model, whose worst tenth it is.
    """
    nll, tokens = _nll(store, evaluation)
    worst = worst_tenth(*_nll(store, base))
    return LikelihoodFacts(
        method=method,
        sentences=len(nll),
        tokens=int(tokens.sum()),
        perplexity=Interval.of(perplexity_interval(nll, tokens)),
        worst_decile_nats=_difference_on(worst, nll, np.zeros(len(nll)), tokens),
        worst_sentence_nats=Interval.of(worst_sentence_interval(nll / tokens)),
    )


def compare_likelihoods(
    store: Store, method: str, evaluation: str, other: str, other_evaluation: str, base: str, basis: str
) -> Comparison:
    """Two models' perplexities, and their nats on the worst tenth, paired over the held-out sentences.

    Args:
        evaluation, other_evaluation, base: keys of the evaluations of both and of the base model, whose worst tenth it
            is.
        basis: what is equal between the two, such as "at equal tokens and steps".
    """
    nll, tokens = _nll(store, evaluation)
    other_nll, _ = _nll(store, other_evaluation)
    ratio = Interval.of(perplexity_ratio_interval(nll, other_nll, tokens))
    worst = _difference_on(worst_tenth(*_nll(store, base)), nll, other_nll, tokens)
    if ratio.high < 1:
        verdict = f"{method} is better than {other} {basis}: perplexity {_percent(1 - ratio.value)} lower"
    elif ratio.low > 1:
        verdict = f"{method} is worse than {other} {basis}: perplexity {_percent(ratio.value - 1)} higher"
    else:
        verdict = f"no difference in perplexity was shown between {method} and {other} {basis}"
    return Comparison(
        method=method, other=other, perplexity_ratio=ratio, worst_decile_difference=worst, verdict=verdict
    )


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


def scores_of(store: Store, judgements: str) -> np.ndarray:
    """A judge's verdicts on a method's completions: (prompts,), 1 win, 0 loss, 0.5 tie, NaN where both are the same."""
    columns = pq.read_table(store.fetch("judgements", judgements) / "judgements.parquet").to_pydict()
    scores = pair_scores(columns["choice"], columns["swapped_choice"])
    return np.where(np.array(columns["identical"], dtype=bool), np.nan, scores)


def overlap_facts(store: Store, overlap: str, left_out: bool) -> OverlapFacts:
    """What held-out examples and the pool share, and whether the former were left out of the evaluation for it."""
    facts = store.get("overlap", overlap).facts
    return OverlapFacts(words=facts["words"], held_out=facts["held_out"], pool=facts["pool"], left_out=left_out)


def overlap_warning(overlap: OverlapFacts) -> list[str]:
    """A warning where the evaluation goes by examples that overlap with the pool; nothing where it does not."""
    if overlap.left_out or not overlap.held_out:
        return []
    return [
        f"{overlap.held_out:,} of the held-out examples overlap with the pool ({overlap.words} words in a row, or all "
        "of a shorter one): what is measured on them may be remembered rather than learnt. Set evaluation.on_overlap "
        "to leave out to measure without them."
    ]


def task_scores(store: Store, harness: dict[str, str]) -> list[TaskScore]:
    """Each figure of the harness's tasks, beside those of the other models.

    Args:
        harness: by method, the key of what the harness measured of it.
    """
    scores = dict[tuple[str, str], TaskScore]()
    for method, key in harness.items():
        for row in pq.read_table(store.fetch("harness", key) / "harness.parquet").to_pylist():
            name = row["task"], row["metric"]
            score = scores.setdefault(name, TaskScore(task=name[0], metric=name[1], figures={}))
            score.figures[method] = TaskFigure(value=row["value"], stderr=row["stderr"])
    return list(scores.values())


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
    return Interval.of(wilson_interval(float(scores.sum()), len(scores)))


def _difference_on(places: np.ndarray, nll: np.ndarray, other: np.ndarray, tokens: np.ndarray) -> Interval:
    """By how many nats a token two models differ on some of the sentences."""
    return Interval.of(mean_difference(nll[None, places], other[None, places], tokens[places]))


def _nll(store: Store, evaluation: str) -> tuple[np.ndarray, np.ndarray]:
    columns = pq.read_table(store.fetch("evaluation", evaluation) / "nll.parquet").to_pydict()
    return np.array(columns["nll"]), np.array(columns["tokens"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
