"""From verdicts to statements: what the report may and may not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fishersft.data.store import Store
from fishersft.reporting.summary import OverlapFacts, WinRate
from fishersft.steps.findings import compare_likelihoods, judge_warning, likelihood_facts, overlap_warning, win_rate


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def judgements(store: Store, choices: Sequence[int], swapped: Sequence[int], identical: Sequence[bool]) -> WinRate:
    unreadable = [not same and 0 in pair for *pair, same in zip(choices, swapped, identical, strict=True)]
    with store.publish("judgements", "0" * 64, {}, {}) as draft:
        columns = {"choice": choices, "swapped_choice": swapped, "identical": identical, "unreadable": unreadable}
        pq.write_table(pa.table(columns), draft.folder / "judgements.parquet")
    return win_rate(store, "a", "b", "0" * 64)


def evaluation(store: Store, key: str, nll: Sequence[float]) -> str:
    with store.publish("evaluation", key, {}, {}) as draft:
        pq.write_table(pa.table({"nll": list(nll), "tokens": [10] * len(nll)}), draft.folder / "nll.parquet")
    return key


def test_wins_losses_and_ties_are_counted_over_both_orders(store: Store) -> None:
    rate = judgements(store, [1, 2, 1, 2], [2, 1, 1, 2], [False] * 4)
    assert (rate.wins, rate.losses, rate.ties, rate.prompts) == (1, 1, 2, 4)
    assert rate.rate.value == 0.5 and "no preference" in rate.verdict


def test_a_judge_that_always_names_the_first_text_is_called_out(store: Store) -> None:
    rate = judgements(store, [1] * 20, [1] * 20, [False] * 20)
    assert rate.ties == 20 and rate.first_chosen.value == 1.0
    assert "100.0% of the time" in str(judge_warning([rate]))


def test_a_judge_that_prefers_one_writer_is_not_called_out(store: Store) -> None:
    rate = judgements(store, [1] * 20, [2] * 20, [False] * 20)
    assert rate.wins == 20 and rate.first_chosen.value == 0.5
    assert judge_warning([rate]) is None and rate.verdict == "the judge prefers a to b"


def test_identical_texts_are_nothing_to_judge_and_no_ground_to_blame_the_judge(store: Store) -> None:
    rate = judgements(store, [0] * 5, [0] * 5, [True] * 5)
    assert (rate.prompts, rate.identical, rate.unreadable) == (0, 5, 0)
    assert (rate.rate.low, rate.rate.high) == (0.0, 1.0)
    assert judge_warning([rate]) is None and "nothing to judge" in rate.verdict


def test_overlap_is_warned_of_where_it_is_evaluated_on() -> None:
    overlap = OverlapFacts(words=13, held_out=1200, pool=3, left_out=False)
    (warning,) = overlap_warning(overlap)
    assert warning.startswith("1,200 of the held-out examples overlap with the pool (13 words in a row")
    assert overlap_warning(overlap.model_copy(update={"left_out": True})) == []
    assert overlap_warning(overlap.model_copy(update={"held_out": 0})) == []


def test_answers_that_name_no_text_are_ties_and_say_nothing_about_a_place(store: Store) -> None:
    rate = judgements(store, [1, 1, 0, 0], [2, 0, 2, 0], [False] * 4)
    assert (rate.wins, rate.ties, rate.unreadable) == (1, 3, 3)
    assert rate.first_chosen.value == 0.5
    assert judgements(store, [1, 1, 0], [1, 0, 0], [False] * 3).first_chosen.value == 1.0


def test_a_clear_difference_is_called_one_and_noise_is_not(store: Store) -> None:
    base = evaluation(store, "1" * 64, [30.0 + i % 7 for i in range(50)])
    better = evaluation(store, "2" * 64, [25.0 + i % 7 for i in range(50)])
    noise = evaluation(store, "3" * 64, [30.0 + i % 7 + (-1) ** i * 3 for i in range(50)])
    assert "a is better than b at equal tokens: perplexity" in (
        compare_likelihoods(store, "a", better, "b", base, base, "at equal tokens").verdict
    )
    assert "a is worse than b" in compare_likelihoods(store, "a", base, "b", better, base, "x").verdict
    assert "no difference" in compare_likelihoods(store, "a", noise, "b", base, base, "x").verdict


def test_a_model_may_be_worse_in_the_mean_and_better_on_the_worst_tenth(store: Store) -> None:
    base = evaluation(store, "0" * 64, [30.0] * 36 + [60.0] * 4)
    steady = evaluation(store, "1" * 64, [31.0] * 40)
    uneven = evaluation(store, "2" * 64, [25.0] * 32 + [50.0] * 8)
    compared = compare_likelihoods(store, "steady", steady, "uneven", uneven, base, "x")
    assert compared.perplexity_ratio.value == pytest.approx(np.exp(3.1 - 3.0))
    assert compared.worst_decile_difference.value == pytest.approx(3.1 - 5.0)
    assert compared.worst_decile_difference.high < 0


def test_the_worst_decile_is_the_tenth_that_the_base_model_predicts_worst(store: Store) -> None:
    base = evaluation(store, "0" * 64, [90.0, 80.0] + [10.0] * 18)
    facts = likelihood_facts(store, "a", evaluation(store, "1" * 64, [20.0, 40.0] + [10.0] * 16 + [50.0, 70.0]), base)
    assert facts.worst_decile_nats.value == pytest.approx(3.0)
    assert facts.worst_sentence_nats.value == pytest.approx(7.0)
    assert (facts.sentences, facts.tokens) == (20, 200)
