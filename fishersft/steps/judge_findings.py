"""From the artifacts of judging to what the judges are worth: calibration, agreement, cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fishersft.config.judging import JudgeConfig
from fishersft.data.store import Store
from fishersft.numerics import cohen_kappa
from fishersft.reporting.summary import Agreement, JudgeFacts, WinRate
from fishersft.steps.findings import scores_of, win_rate

REAL = "real text"
SHUFFLED = "the same words shuffled"
_MANY_UNREADABLE = 0.1


def judge_facts(
    store: Store,
    name: str,
    config: JudgeConfig,
    calibration: str,
    compared: Sequence[tuple[str, str, str]],
    first_judge: Sequence[str] | None = None,
) -> JudgeFacts:
    """What a judge said, and whether it may be believed.

    Args:
        name: the judge's.
        config: its settings, which have its prices.
        calibration: the key of its judgements of real against shuffled text.
        compared: method, other method and the key of its judgements, for each pair of methods.
        first_judge: the keys of the first judge's judgements of the same pairs; None where it is the first one.
    """
    keys = [key for _, _, key in compared]
    facts = [store.get("judgements", key).facts for key in [calibration, *keys]]
    return JudgeFacts(
        name=name,
        calibration=win_rate(store, REAL, SHUFFLED, calibration),
        win_rates=[win_rate(store, method, other, key) for method, other, key in compared],
        tokens=sum(fact["tokens"] for fact in facts),
        cost=config.cost(*(sum(fact[name] for fact in facts) for name in ("input_tokens", "output_tokens"))),
        agreement=None if first_judge is None else agreement(store, first_judge, keys),
    )


def agreement(store: Store, judgements: Sequence[str], others: Sequence[str]) -> Agreement | None:
    """How far two judges agree on the same pairs; None where no pair was judged.

    Args:
        judgements: keys of one judge's judgements.
        others: keys of the other's, of the same pairs in order.
    """
    scores, other_scores = (np.concatenate([scores_of(store, key) for key in keys]) for keys in (judgements, others))
    judged = ~np.isnan(scores)
    scores, other_scores = scores[judged], other_scores[judged]
    if not len(scores):
        return None
    return Agreement(
        pairs=len(scores), same=float((scores == other_scores).mean()), kappa=cohen_kappa(scores, other_scores)
    )


def judge_warnings(judges: Sequence[JudgeFacts]) -> list[str]:
    """A warning for each judge that is unfit, and for each that often names neither text."""
    warnings = []
    for judge in judges:
        if not judge.fit:
            warnings.append(unfit(judge.name, judge.calibration))
        asked = sum(rate.prompts for rate in judge.win_rates)
        unreadable = sum(rate.unreadable for rate in judge.win_rates)
        if unreadable > _MANY_UNREADABLE * asked:
            warnings.append(
                f"The judge {judge.name} named neither text in {unreadable:,} of {asked:,} pairs, which count as ties: "
                "it refused, rambled or was refused the question."
            )
    return warnings


def unfit(name: str, calibration: WinRate) -> str:
    """Why a judge is unfit, in a sentence."""
    if not calibration.prompts:
        return (
            f"The judge {name} could not be calibrated: no held-out text has 5 different words. Its verdicts may say "
            "nothing."
        )
    rate = calibration.rate
    return (
        f"The judge {name} is unfit: it preferred real text to the same words shuffled in {100 * rate.value:.0f}% of "
        f"{calibration.prompts:,} pairs (95% interval {100 * rate.low:.0f}% to {100 * rate.high:.0f}%), so its "
        "verdicts say little. Name a stronger one in evaluation.judging.judges."
    )
