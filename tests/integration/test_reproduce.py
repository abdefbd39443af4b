"""The paper's experiments from the command line, small, against a real Prefect server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.whole_run import small_config
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.server


def reproduce(server: PrefectServer, experiment: str, folder: Path, **changes: object) -> str:
    """What it prints."""
    settings = {"store": folder / "store", "output": folder / "output", **changes}
    words = [word for name, value in settings.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
    return server.module("fishersft.cli", "reproduce", experiment, *words, cwd=folder)


def test_synthetic_prints_its_tables_leaves_its_page_and_computes_nothing_again(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    small = {"sentences": 80, "tokens": 5, "words": 30, "dims": "[3, 4]", "classes": "[5]", "budgets": "[10, 30]"}
    printed = reproduce(prefect_server, "synthetic", tmp_path, repeats=3, **small)
    assert "Errors, 3 dimensions, 5 classes" in printed and "Slope of log error over log budget" in printed
    assert "7 artifacts: 7 made, 0 found" in printed
    folder = tmp_path / "output" / "synthetic"
    assert {file.name for file in folder.iterdir()} >= {"index.html", "simulation.md", "errors.svg", "dimensions.svg"}
    assert "7 artifacts: 0 made, 7 found" in reproduce(prefect_server, "synthetic", tmp_path, repeats=3, **small)
    (run, *_) = prefect_server.post("flow_runs/filter", {"flow_runs": {"name": {"any_": ["simulate-synthetic"]}}})
    keys = {artifact["key"] for artifact in prefect_server.artifacts(run["id"])}
    assert keys >= {"simulate-synthetic-summary", "simulate-synthetic-figures"}


def test_speed_times_the_published_algorithms_and_the_engine(
    prefect_server: PrefectServer, tmp_path: Path, tiny_model_folder: Path
) -> None:
    corpus = small_config(tmp_path, tiny_model_folder, str(tmp_path / "store")).corpus.path
    small = {"corpus__path": corpus, "corpus__format": "lines", "corpus__pattern": "null", "model__max_tokens": 32}
    printed = reproduce(
        prefect_server, "speed", tmp_path, model__path=tiny_model_folder, budgets="[1, 5]", seconds=60, **small
    )
    assert "Seconds to choose" in printed
    table = (tmp_path / "output" / "speed" / "speed.csv").read_text().splitlines()
    assert table[0] == "algorithm,budget,seconds,measured"
    assert [line.split(",")[0] for line in table[1:]] == ["naive", "naive", "paper", "paper", "lazy", "lazy"]
    assert all(line.endswith("True") for line in table[1:])
