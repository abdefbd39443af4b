"""The experiment on frozen features from the command line, small: nothing is computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from fishersft.config.frozen_features import FrozenFeaturesConfig
from fishersft.data.store import Store
from fishersft.reproduce_cli import reproduce_app
from fishersft.steps import frozen_features as steps

SMALL = {"pool": 40, "held_out": 12, "most": 60, "fewest": 5, "budgets": "[4, 10]", "draws": 2, "splits": 3, "folds": 2}


@pytest.fixture
def words(tmp_path: Path, tiny_model_folder: Path) -> list[str]:
    """The command and its settings."""
    corpora = tmp_path / "corpora"
    (corpora / "nouns").mkdir(parents=True)
    for name, about in (("winds", "Rough winds do shake"), ("eyes", "hot the eye of heaven shines"), ("few", "a date")):
        texts = [f"{about} number {n} of {n * n}" for n in range(2 if name == "few" else 30)]
        (corpora / "nouns" / f"{name}.txt").write_text("\n\n".join(texts))
    settings = {**SMALL, "store": tmp_path / "store", "output": tmp_path / "output", "model.path": tiny_model_folder}
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["frozen-features", "--corpus", "nouns", "--texts", str(corpora), *sets]


def test_it_prints_its_table_leaves_files_and_a_second_run_finds_everything(words: list[str], tmp_path: Path) -> None:
    first = CliRunner().invoke(reproduce_app, words, catch_exceptions=False)
    assert first.exit_code == 0
    folder = tmp_path / "output" / "frozen-features-nouns"
    table, rows = (folder / "frozen-features.md").read_text(), (folder / "splits.csv").read_text()
    assert "| gradient matching | 10 |" in table
    assert len(rows.splitlines()) == 1 + 3 * (7 * 2 + 6)
    kinds = {kind: set((tmp_path / "store" / kind).iterdir()) for kind in ("features", "trial")}
    assert len(kinds["features"]) == 1 and len(kinds["trial"]) == 3
    again = CliRunner().invoke(reproduce_app, words, catch_exceptions=False)
    assert "3 found in the store" in again.output and " made in " not in again.output
    assert kinds == {kind: set((tmp_path / "store" / kind).iterdir()) for kind in kinds}
    assert (folder / "frozen-features.md").read_text() == table


def test_an_interrupted_embedding_goes_on_where_it_was(
    words: list[str], tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_PART", 25)
    config = FrozenFeaturesConfig.model_validate(
        {
            "texts": str(tmp_path / "corpora" / "nouns"),
            "fewest": 5,
            "most": 60,
            "model": {"path": str(tiny_model_folder)},
        }
    )
    store, texts = Store(str(tmp_path / "store")), steps.texts_of_config(config).texts

    def bar(what: str) -> Any:
        return lambda done, total, note="": None

    assert [part.hit for part in steps.embed_texts(store, config, texts[:50], bar)] == [False, False]
    assert [part.hit for part in steps.embed_texts(store, config, texts, bar)] == [True, True, False]
    question = config.model_copy(update={"question": "\nKind:"})
    assert [part.hit for part in steps.embed_texts(store, question, texts[:25], bar)] == [False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": [400]}, "uniform is measured at 4 times that, 1600, but the pool has 1500"),
        ({"budgets": [100, 100]}, "budgets names one twice"),
        ({"budgets": [3], "folds": 5}, "too few for 5 folds"),
        ({"splits": 1}, "greater than or equal to 2"),
        ({"ridges": [0]}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FrozenFeaturesConfig.model_validate({"texts": "nouns", **changes})
