"""The harness step: what its artifact holds and its key hangs on, with a stand-in for the harness itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.models.harness import TaskFigure
from fishersft.steps import harness as step
from fishersft.steps.findings import task_scores
from fishersft.steps.harness import run_harness

FIGURES = {"easy": TaskFigure("easy", "acc", 0.5, None), "hard": TaskFigure("hard", "acc", 0.5, 0.1)}


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> CurateConfig:
    """A config that asks for two tasks, on which every model has the same figures."""
    monkeypatch.setattr(step, "harness_version", lambda: "0.0")
    monkeypatch.setattr(step, "run_tasks", lambda model, tokenizer, tasks: [FIGURES[task] for task in tasks])
    return CurateConfig.model_validate(
        {
            "corpus": {"path": "none.txt"},
            "model": {"path": str(tiny_model_folder)},
            "evaluation": {"harness_tasks": ["hard", "easy"]},
            "store": str(tmp_path / "store"),
        }
    )


def test_the_figures_of_all_models_are_laid_side_by_side(config: CurateConfig) -> None:
    store = Store(config.store)
    key = run_harness(store, config, None).key
    easy, hard = task_scores(store, {"base": key, "uniform": key})
    assert (easy.task, easy.metric, hard.task) == ("easy", "acc", "hard")
    assert list(hard.figures) == ["base", "uniform"]
    assert (hard.figures["base"].value, hard.figures["base"].stderr) == (0.5, 0.1)
    assert easy.figures["uniform"].stderr is None


def test_the_order_of_tasks_makes_nothing_anew_and_another_version_of_the_harness_does(
    config: CurateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(config.store)
    first = run_harness(store, config, None)
    other_order = config.evaluation.model_copy(update={"harness_tasks": ["easy", "hard", "easy"]})
    assert run_harness(store, config.model_copy(update={"evaluation": other_order}), None).key == first.key
    monkeypatch.setattr(step, "harness_version", lambda: "0.1")
    assert not run_harness(store, config, None).hit
