"""Simulations as steps: each trial is an artifact of its own, and the page says what they say together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fishersft.config.simulation import SimulationConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.experiments.trial import Trial
from fishersft.steps.simulating import load_simulation, make_simulation, run_trial
from fishersft.steps.simulation_findings import findings

SMALL: dict[str, Any] = {
    "name": "small",
    "sentences": 60,
    "tokens": 4,
    "words": 30,
    "dims": [3, 4],
    "classes": [5, 6],
    "budgets": [20, 10],
    "methods": ["D-optimal", "uniform"],
    "repeats": 3,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def settings(**changes: Any) -> SimulationConfig:
    return SimulationConfig.model_validate({**SMALL, **changes})


def all_trials(store: Store, config: SimulationConfig) -> list[str]:
    return [run_trial(store, config, setting, seed).key for setting in config.settings for seed in config.seeds]


def test_a_trial_is_made_once_and_another_setting_makes_another(store: Store) -> None:
    first = run_trial(store, settings(), (3, 5), 0)
    assert not first.hit
    again = run_trial(store, settings(name="other", output="elsewhere", repeats=9), (3, 5), 0)
    assert again.hit and again.key == first.key
    others = [
        run_trial(store, settings(), (3, 5), 1),
        run_trial(store, settings(), (4, 5), 0),
        run_trial(store, settings(regularization=2.0), (3, 5), 0),
    ]
    assert not any(other.hit for other in others)


def test_the_main_problem_has_all_budgets_and_the_others_the_largest(store: Store) -> None:
    config = settings()
    page = make_simulation(store, config, all_trials(store, config))
    found = load_simulation(store, page.key)
    assert [(row.method, row.budget) for row in found.main] == [
        ("D-optimal", 10),
        ("D-optimal", 20),
        ("uniform", 10),
        ("uniform", 20),
    ]
    assert {(row.dim, row.classes) for row in found.trends} == {(3, 5), (4, 5), (3, 6)}
    assert {row.budget for row in found.trends} == {20}
    assert [slope.method for slope in found.slopes] == ["D-optimal", "uniform"]
    folder = store.fetch("simulation", page.key)
    assert {file.name for file in folder.iterdir()} >= {"index.html", "errors.csv", "simulation.md", "errors.svg"}
    page_text = (folder / "index.html").read_text()
    assert "http:" not in page_text and "https:" not in page_text and "<script" not in page_text


def told(largest: dict[str, list[float]]) -> str:
    """The headline for these largest errors of each method, one a seed."""
    config = settings(dims=[3], classes=[5], budgets=[10], repeats=5, methods=list(largest))
    trials = [[Trial(m, 10, largest[m][seed], largest[m][seed] / 2) for m in largest] for seed in range(5)]
    return findings(config, trials).headline


def test_the_headline_says_where_the_first_is_better_where_worse_and_where_nothing_was_shown() -> None:
    base = np.array([1.0, 1.1, 0.9, 1.0, 1.05])
    worse, better = (2 * base * [1, 1.01, 0.99, 1, 1.02]).tolist(), (0.5 * base * [1, 0.99, 1.01, 1, 1]).tolist()
    noise = (base * [1.2, 0.8, 1.1, 0.9, 1.0]).tolist()
    first = base.tolist()
    assert told({"D-optimal": first, "uniform": worse}) == (
        "D-optimal has the smaller largest error in 1 of 1 comparisons with other methods"
    )
    assert told({"D-optimal": first, "uniform": noise}) == (
        "D-optimal has the smaller largest error in 0 of 1 comparisons with other methods; in the other 1 no "
        "difference was shown"
    )
    assert told({"D-optimal": first, "uniform": better, "density": worse, "clustering": noise}) == (
        "D-optimal has the smaller largest error in 1 of 3 comparisons with other methods, and the larger in 1 "
        "(with uniform); in the rest no difference was shown"
    )


def test_word_vectors_from_a_file_are_the_features(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"word{n} " + " ".join(f"{x:.4f}" for x in rng.normal(size=8)) for n in range(30)]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    by_file = run_trial(store, settings(vectors=str(tmp_path / "glove.txt")), (3, 5), 0)
    assert by_file.key != run_trial(store, settings(), (3, 5), 0).key
    # the same vectors elsewhere are the same trial
    (tmp_path / "moved.txt").write_text("\n".join(lines))
    assert run_trial(store, settings(vectors=str(tmp_path / "moved.txt")), (3, 5), 0).key == by_file.key


def test_word_vectors_that_are_not_there_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; `vectors` names a word2vec or GloVe text file, or a model"):
        run_trial(store, settings(vectors=str(tmp_path / "nothing.txt")), (3, 5), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [60]}, "budgets has 60, which is all of 60 sentences"),
        ({"features": "own tokens", "vectors": "glove.txt"}, "vectors are of words"),
        ({"dims": [3, 3]}, "dims names one twice"),
        ({"methods": ["uniform"]}, "at least 2"),
        ({"repeats": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)
