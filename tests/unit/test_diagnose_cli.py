"""`fishersft diagnose`: what it finds of a pool and a target, and what it forecasts."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from fishersft.steps.diagnosing import Diagnosis
from tests.selected import run, write_rows

FOUND: dict[str, Any] = {
    "sampled": 1000,
    "rows": 1000,
    "near_copies": 0.01,
    "rank": 12.0,
    "dim": 64,
    "target_examples": 30,
    "target_tokens": 900,
    "like_target": 0.2,
    "budget": 2000,
}


@pytest.mark.parametrize(
    ("changes", "forecast"),
    [
        ({}, ["Selecting towards the target should pay"]),
        ({"like_target": 0.9}, ["A uniform choice will do: most of the pool is like the target"]),
        ({"like_target": None, "target_examples": 0}, ["A uniform choice will do: without a target"]),
        ({"target_tokens": 2000}, ["train on the target itself", "Selecting towards the target should pay"]),
        ({"target_tokens": 2000, "budget": None}, ["Selecting towards the target should pay"]),
        ({"target_examples": 4}, ["4 target examples are few", "Selecting towards the target should pay"]),
        ({"prompts": True}, ["A uniform choice will do: these are prompts without answers"]),
        ({"near_copies": 0.3}, ["30% of the pool are near copies", "Selecting towards the target should pay"]),
    ],
)
def test_the_forecast_follows_from_what_was_measured(changes: dict[str, Any], forecast: list[str]) -> None:
    lines = Diagnosis(**{**FOUND, **changes}).forecast
    assert len(lines) == len(forecast)
    assert all(part in line for part, line in zip(forecast, lines, strict=True))


def test_it_counts_near_copies_and_finds_the_target(tmp_path: Path, tiny_model_folder: Path) -> None:
    rng = random.Random(0)
    texts = [" ".join(f"{rng.randrange(1000)}" for _ in range(14)) for _ in range(40)]
    texts += [f"{texts[0]} {texts[1]} {texts[2]} again {n % 2}" for n in range(2)]
    pool = write_rows(tmp_path / "pool.jsonl", [{"text": text} for text in texts])
    target = write_rows(tmp_path / "target.jsonl", [{"text": f"so long lives this {n}"} for n in range(12)])
    settings = [f"model.path={tiny_model_folder}", f"store={tmp_path / 'store'}"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    printed = run("diagnose", pool, "--target", target, *overrides)
    assert re.search(r"examples looked at +│ +42 of 42", printed)
    assert re.search(r"near copies +│ +2%", printed)  # one of the two that begin alike
    assert re.search(r"target +│ +12 examples, [\d,]+ tokens", printed)
    assert re.search(r"pool like the target +│ +about \d+%", printed)
    again = run("diagnose", pool, "--target", target, *overrides, "--set", "corpus.max_rows=30")
    assert re.search(r"examples looked at +│ +30 of 42", again)
