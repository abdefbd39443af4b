"""The sentences that a comparison measures on, and the columns that say how they count."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fishersft.config import CurateConfig, EvaluationConfig
from fishersft.data.examples import PromptCompletion
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics.crossed import mean_difference
from fishersft.steps.comparison_keys import TrainedKeys
from fishersft.steps.corpus import read_corpus
from fishersft.steps.evaluation import measure_likelihood
from fishersft.steps.held_out import evaluated_examples, refuse_columns
from fishersft.steps.measured import Measured, check_measured, measured_sentences, trained_nll
from tests.unit.steps.small_run import WORDS

TASKS = ["sums", "chess", "verse"]


def rows() -> list[dict[str, Any]]:
    """Every fourth prompt is longer than the model takes, so that nothing of its completion is left."""
    rng = np.random.default_rng(0)
    return [
        {
            "prompt": " ".join(rng.choice(WORDS, size=60 if n % 4 == 0 else 4)) + f" {n}",
            "completion": " ".join(rng.choice(WORDS, size=2)),
            "task": TASKS[n % 3],
        }
        for n in range(60)
    ]


def config(folder: Path, model: Path, written: list[dict[str, Any]], **evaluation: Any) -> CurateConfig:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(folder / "rows.jsonl"), "held_out_fraction": 0.5},
            "model": {"path": str(model), "max_tokens": 32},
            "evaluation": {"macro_column": "task", **evaluation},
            "store": str(folder / "store"),
        }
    )


def short_prompts(store: Store, settings: CurateConfig, corpus: str) -> list[str]:
    """The prompts of the examples to measure on that leave room for their completions."""
    examples = evaluated_examples(store, settings, corpus).examples[: settings.evaluation.sentences]
    return [of.prompt for of in examples if isinstance(of, PromptCompletion) and len(of.prompt.split()) < 10]


def test_every_sentence_that_is_measured_has_its_rows_value(tmp_path: Path, tiny_model_folder: Path) -> None:
    settings = config(tmp_path, tiny_model_folder, rows(), sentences=20)
    store = Store(settings.store)
    corpus = read_corpus(store, settings).key
    check_measured(store, settings, corpus)
    base = measure_likelihood(store, settings, corpus, None)
    task = {row["prompt"]: row["task"] for row in rows()}
    short = short_prompts(store, settings, corpus)
    found = measured_sentences(store, settings, corpus, base.key)
    assert found.groups == [task[prompt] for prompt in short]
    assert 2 < len(short) == base.facts["sentences"] < 20
    assert found.mean(found.base[None])[0] == pytest.approx(
        np.mean([found.only(found.of_group(name)).mean(found.base[None, found.of_group(name)]) for name in TASKS])
    )


def test_columns_are_looked_at_before_anything_is_computed(tmp_path: Path, tiny_model_folder: Path) -> None:
    written = rows()
    del written[5]["task"], written[6]["task"], written[7]["task"], written[9]["task"], written[10]["task"]
    lacking = config(tmp_path, tiny_model_folder, written)
    store = Store(lacking.store)
    with pytest.raises(InputError, match=r"rows.jsonl:\d+ has no 'task', which evaluation.macro_column names; its col"):
        check_measured(store, lacking, read_corpus(store, lacking).key)
    elsewhere = config(tmp_path, tiny_model_folder, rows(), corpus={"path": str(tmp_path / "few.jsonl")})
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()[1:4] + rows()[5:7]))
    alone = next(task for task, times in Counter(TASKS[n % 3] for n in (1, 2, 3, 5, 6)).items() if times == 1)
    with pytest.raises(InputError, match=f"of '{alone}' 1 sentence is measured, and an interval needs 2"):
        check_measured(store, elsewhere, read_corpus(store, elsewhere).key)


def with_plays(play: Callable[[int], str]) -> list[dict[str, Any]]:
    return [{**row, "play": play(n)} for n, row in enumerate(rows())]


def test_intervals_are_over_clusters_where_a_column_has_them(tmp_path: Path, tiny_model_folder: Path) -> None:
    settings = config(tmp_path, tiny_model_folder, with_plays(lambda n: f"play {n % 5}"), cluster_column="play")
    store = Store(settings.store)
    corpus = read_corpus(store, settings).key
    check_measured(store, settings, corpus)
    measured = measured_sentences(store, settings, corpus, measure_likelihood(store, settings, corpus, None).key)
    numbers = [int(prompt.split()[-1]) for prompt in short_prompts(store, settings, corpus)]
    assert measured.clusters == [f"play {n % 5}" for n in numbers]
    assert measured.groups == [TASKS[n % 3] for n in numbers]
    other, zeros = measured.base[None], np.zeros((1, len(measured.base)))
    assert measured.difference(other, zeros) == mean_difference(
        other, zeros, measured.tokens, measured.groups, measured.clusters
    )


def test_a_worst_tenth_of_one_cluster_has_no_interval() -> None:
    base = np.array([9.0, 9.0, *[1.0] * 18])
    nll, other = base[None] - 0.1, base[None]
    apart = Measured(np.ones(20), base, clusters=[str(n) for n in range(20)])
    together = Measured(np.ones(20), base, clusters=["a", "a", *[str(n) for n in range(18)]])
    found = apart.difference_on_worst(nll, other)
    assert found is not None and found.value == pytest.approx(-0.1)
    assert together.difference_on_worst(nll, other) is None


def test_the_deviation_over_orders_is_that_within_seeds() -> None:
    rng = np.random.default_rng(0)
    nll, other, tokens = rng.normal(9, 2, (3, 2, 8)), rng.normal(9, 2, (3, 2, 8)), rng.integers(1, 9, 8)
    within = []
    for seed in range(3):
        first, second = ((nll[seed, order] - other[seed, order]).sum() / tokens.sum() for order in range(2))
        within.append((first - second) ** 2 / 2)
    measured = Measured(tokens, nll[0, 0])
    assert measured.deviation_over_orders(nll, other) == pytest.approx(np.sqrt(np.mean(within)))
    assert measured.deviation_over_orders(nll[:, :1], other[:, :1]) is None


def test_losses_are_averaged_over_orders_sentence_by_sentence(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    nll = np.random.default_rng(0).normal(9, 2, (2, 2, 5))
    for seed, order in np.ndindex(2, 2):
        with store.publish("evaluation", f"{seed}{order}" * 32, {}, {}) as draft:
            table = pa.table({"nll": nll[seed, order], "tokens": [3, 1, 4, 1, 5]})
            pq.write_table(table, draft.folder / "nll.parquet")
    trained = [
        TrainedKeys("s", "t", f"{seed}0" * 32, None, (TrainedKeys("s", "u", f"{seed}1" * 32, None),))
        for seed in range(2)
    ]
    assert (trained_nll(store, trained) == nll).all()


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (lambda n: "Hamlet", "cluster_column 'play': all that is measured has the value 'Hamlet'"),
        (lambda n: f"play {n % 3}", "of 'chess' 1 cluster is measured, and an interval needs 2 of every value"),
    ],
)
def test_one_cluster_is_no_sample(
    tmp_path: Path, tiny_model_folder: Path, play: Callable[[int], str], message: str
) -> None:
    settings = config(tmp_path, tiny_model_folder, with_plays(play), cluster_column="play")
    store = Store(settings.store)
    with pytest.raises(InputError, match=message):
        check_measured(store, settings, read_corpus(store, settings).key)


def test_groups_and_clusters_are_different_columns() -> None:
    with pytest.raises(ValidationError, match="macro_column and cluster_column are both 'task'"):
        EvaluationConfig(macro_column="task", cluster_column="task")


def test_only_a_comparison_measures_by_a_column(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(InputError, match="macro_column is for `fishersft compare`"):
        refuse_columns(config(tmp_path, tiny_model_folder, rows()))
