"""Comparisons from the command line against a real Prefect server: whole, killed and gone on with, and rigged."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fishersft.reporting.comparison import Comparison, read_comparison
from fishersft.steps.models import PreparedModel
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.server


@pytest.fixture
def settings(tmp_path: Path, tiny_judge_folder: Path) -> dict[str, Any]:
    """A small comparison with the tiny model."""
    verses = tmp_path / "verses.txt"
    verses.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(80)))
    return {
        "name": "verses",
        "corpus": {"path": str(verses), "held_out_fraction": 0.25},
        "model": {"path": str(tiny_judge_folder), "max_tokens": 64},
        "selection": {"budget_unit": "tokens"},
        "finetune": {"epochs": 1, "batch_tokens": 100},
        "evaluation": {"prompts": 3, "prompt_tokens": 4, "new_tokens": 4},
        "methods": ["information", "longest"],
        "budgets": [300],
        "repeats": 2,
        "store": str(tmp_path / "store"),
        "output": str(tmp_path / "output"),
    }


def start(server: PrefectServer, settings: dict[str, Any], folder: Path) -> subprocess.Popen[str]:
    (folder / "comparison.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "fishersft.cli", "compare", str(folder / "comparison.yaml")]
    return subprocess.Popen(
        command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )


def compared(server: PrefectServer, settings: dict[str, Any], folder: Path) -> tuple[Comparison, str]:
    """What a comparison found, and what it printed."""
    run = start(server, settings, folder)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    return read_comparison(Path(settings["output"], "comparison", "comparison.json")), printed


def made_and_found(printed: str) -> tuple[int, int]:
    (counts,) = re.findall(r"artifacts: (\d+) made, (\d+) found", printed)
    return int(counts[0]), int(counts[1])


def test_a_comparison_killed_in_the_middle_goes_on_where_it_was_and_costs_nothing_again(
    prefect_server: PrefectServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**settings, "head_to_head": True}
    trainings = Path(settings["store"], "training")
    first = start(prefect_server, settings, tmp_path)
    while len(list(trainings.glob("*/manifest.json"))) < 3:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    first.kill()
    first.communicate()
    before = {file: file.stat().st_mtime_ns for file in Path(settings["store"]).glob("*/*/manifest.json")}

    comparison, printed = compared(prefect_server, settings, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert made_and_found(printed)[0] > 0
    assert [(item.method, item.basis) for item in comparison.versus] == [
        ("D-optimal", "tokens and steps"),
        ("longest", "tokens and steps"),
        ("D-optimal", "sentences"),
        ("longest", "sentences"),
    ]
    for item in comparison.versus[:2]:
        assert item.steps == item.other_steps == 3
        assert abs(item.tokens - item.other_tokens) <= 32  # the longest sentence
    for item in comparison.versus[2:]:
        assert item.sentences == item.other_sentences
    assert [(item.method, item.other, item.basis) for item in comparison.duels] == [
        ("D-optimal", "uniform", "tokens and steps"),
        ("D-optimal", "longest", "tokens and steps"),
    ]
    assert comparison.duels[0].mean == comparison.versus[0].mean
    output = Path(settings["output"], "comparison")
    assert {file.name for file in output.iterdir()} >= {"index.html", "comparison.md", "comparison.csv"}

    assert not Path(settings["store"], "fine-tuned-model").exists(), "weights go once they are measured"
    assert not list(Path(settings["store"], ".checkpoints").iterdir())

    _, again = compared(prefect_server, settings, tmp_path)
    assert made_and_found(again)[0] == 0
    shown = prefect_server.post("artifacts/latest/filter", {"artifacts": {"key": {"like_": "compare-verses-%"}}})
    assert {artifact["key"].removeprefix("compare-verses-") for artifact in shown} == {
        "summary",
        "win-rates",
        "likelihoods",
        "equal-tokens",
        "equal-sentences",
        "figure",
        "page",
    }


def test_rows_that_all_say_the_same_show_no_difference(
    prefect_server: PrefectServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    # but for a number that tells them apart: exact copies are one example
    Path(settings["corpus"]["path"]).write_text("".join(f"{n:03} {'thee ' * 6}\n" for n in range(90)))
    comparison, printed = compared(prefect_server, {**settings, "repeats": 3, "budgets": [100]}, tmp_path)
    assert {item.verdict for item in comparison.versus[:2]} == {"no difference was shown"}
    assert comparison.headline.startswith("No difference in held-out likelihood was shown")
    assert "No difference in held-out" in " ".join(printed.split())


@pytest.mark.long
@pytest.mark.real_model
def test_in_a_pool_half_of_noise_what_knows_noise_from_text_beats_chance(
    prefect_server: PrefectServer, smollm2: PreparedModel, real_store: str, tmp_path: Path
) -> None:
    """Half of the pool is speeches of Shakespeare, half their letters in any order; the target is other speeches."""
    from benchmarks.embedding.texts import speeches

    rng = random.Random(0)
    texts = [text.replace("\n", " ")[:160] for text in speeches(260)]
    noise = ["".join(rng.sample(text, len(text))) for text in texts[100:200]]
    held_out, target = texts[200:240], texts[240:]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:100] + noise))
    (tmp_path / "target.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in target))
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in held_out))
    settings = {
        "name": "noise",
        "corpus": {"path": str(tmp_path / "pool.jsonl"), "held_out_fraction": 0.05},
        "target": {"path": str(tmp_path / "target.jsonl")},
        "model": {"max_tokens": 32},
        "selection": {"budget_unit": "tokens"},
        "finetune": {"epochs": 1, "batch_tokens": 128},
        "evaluation": {
            "corpus": {"path": str(tmp_path / "text.jsonl")},
            "prompts": 2,
            "prompt_tokens": 4,
            "new_tokens": 4,
        },
        "methods": ["perplexity-low", {"method": "v-optimal", "regularization": 100}],
        "budgets": [800],
        "repeats": 3,
        "store": real_store,
        "output": str(tmp_path / "output"),
    }
    comparison, _ = compared(prefect_server, settings, tmp_path)
    for item in comparison.versus[:2]:
        assert item.verdict == "better" and item.mean.high < 0, item
    assert "perplexity-low of 800 tokens is better" in comparison.headline
