"""The paper's experiments from the command line, small, against a real Prefect server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fishersft.reporting.comparison import read_comparison
from tests.faults.whole_run import small_config
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.server


def reproduce(server: PrefectServer, experiment: str, folder: Path, *arguments: str, **changes: object) -> str:
    """What it prints."""
    settings = {"store": folder / "store", "output": folder / "output", **changes}
    words = [word for name, value in settings.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
    return server.module("fishersft.cli", "reproduce", experiment, *arguments, *words, cwd=folder)


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


def small_comparison(folder: Path, model: Path) -> dict[str, object]:
    """Changes that make a language-model experiment small."""
    config = small_config(folder, model, str(folder / "store"))
    return {
        "corpus__path": config.corpus.path,
        "corpus__format": "lines",
        "corpus__pattern": "null",
        "corpus__max_rows": "null",
        "corpus__held_out_fraction": 0.25,
        "model__path": model,
        "model__max_tokens": 32,
        "finetune__epochs": 1,
        "finetune__batch_tokens": 64,
        "repeats": 2,
    }


def test_the_language_model_experiment_lays_out_its_win_rates_as_the_paper_does(
    prefect_server: PrefectServer, tmp_path: Path, tiny_judge_folder: Path
) -> None:
    small = {"budgets": "[4]", "evaluation__prompts": 2, "evaluation__new_tokens": 4, "evaluation__prompt_tokens": 3}
    printed = reproduce(
        prefect_server, "language-model", tmp_path, **small_comparison(tmp_path, tiny_judge_folder), **small
    )
    assert "D-optimal of as many sentences: how often the judge preferred it to" in " ".join(printed.split())
    comparison = read_comparison(tmp_path / "output" / "comparison" / "comparison.json")
    others = ["uniform", "density", "ask-llm", "sentence-design", "clustering"]
    assert [duel.other for duel in comparison.duels] == others
    assert all(duel.sentences == duel.other_sentences for duel in comparison.duels)


def test_what_perplexity_adds_is_measured_at_equal_tokens_alone_and_without_a_judge(
    prefect_server: PrefectServer, tmp_path: Path, tiny_model_folder: Path
) -> None:
    printed = reproduce(
        prefect_server, "perplexity", tmp_path, **small_comparison(tmp_path, tiny_model_folder), budgets="[60]"
    )
    assert "Outcome at equal tokens and steps" in printed and "At equal sentences" not in printed
    comparison = read_comparison(tmp_path / "output" / "comparison" / "comparison.json")
    assert len(comparison.versus) == 6 and not comparison.judges
    assert not (tmp_path / "store" / "generations").exists()


def test_a_model_chooses_for_another(prefect_server: PrefectServer, tmp_path: Path, tiny_model_folder: Path) -> None:
    changes = {**small_comparison(tmp_path, tiny_model_folder), "budgets": "[60]", "methods": "[information]"}
    stronger = tmp_path / "stronger"
    shutil.copytree(tiny_model_folder, stronger)
    printed = reproduce(prefect_server, "weak-to-strong", tmp_path, str(stronger), "--lora", **changes)
    assert "equal tokens as the choosing model counts them" in " ".join(printed.split())


def test_robustness_is_measured_on_a_pool_of_which_half_is_noise(
    prefect_server: PrefectServer, tmp_path: Path, tiny_model_folder: Path
) -> None:
    verses = tmp_path / "long.txt"
    verses.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(1300)))
    changes = {**small_comparison(tmp_path, tiny_model_folder), "corpus__path": verses, "budgets": "[60]"}
    changes |= {"evaluation__sentences": 20, "methods": "[v-optimal]"}
    words = ("--corpora", str(tmp_path / "corpora"))
    reproduce(prefect_server, "robustness", tmp_path, *words, **changes)
    pool = (tmp_path / "corpora" / "noise" / "pool.jsonl").read_text().splitlines()
    assert len(pool) == 1600
    comparison = read_comparison(tmp_path / "output" / "noise" / "comparison" / "comparison.json")
    assert [item.method for item in comparison.versus] == ["V-optimal"]


def test_a_tiny_target_is_aimed_at_in_pools_drawn_anew_and_a_table_says_what_they_show_together(
    prefect_server: PrefectServer, tmp_path: Path, tiny_model_folder: Path
) -> None:
    settings = {"model__path": tiny_model_folder, "model__max_tokens": 32, "budgets": "[400]", "finetune__epochs": 1}
    methods = "[gradient-matching, {method: perfect-filter, column: domain, keep: domain}]"
    words = ("--corpora", str(tmp_path / "corpora"), "--domain", "python-manual", "--replicates", "2")
    printed = reproduce(prefect_server, "tiny-target", tmp_path, *words, methods=methods, **settings)
    assert "replicate 2 of 2" in printed
    table = (tmp_path / "output" / "tiny-target-python-manual" / "replicates.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[4:] if line] == [
        "gradient matching",
        "perfect-filter",
    ]
    pools = [(tmp_path / "corpora" / "tiny-target-python-manual" / n / "pool.jsonl").read_text() for n in "01"]
    assert all(len(pool.splitlines()) == 700 for pool in pools) and pools[0] != pools[1]
    first = read_comparison(tmp_path / "output" / "tiny-target-python-manual" / "0" / "comparison" / "comparison.json")
    on_target = {arm.method: arm.on_target for arm in first.arms}
    assert on_target["perfect-filter"] == 1 and 0 < (on_target["uniform"] or 0) < 0.3
