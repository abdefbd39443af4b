"""A small corpus of verses, and a run of the steps over it with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from tests.unit.steps.small_run import WORDS, Run


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    rows = [
        {"id": i, "text": " ".join(generator.choice(WORDS, size=generator.integers(2, 9))), "extra": {"né": [i, None]}}
        for i in range(60)
    ]
    path = tmp_path / "verses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path, corpus_file: Path, tiny_model_folder: Path) -> Run:
    config = CurateConfig.model_validate(
        {
            "name": "verses",
            "corpus": {"path": str(corpus_file)},
            "model": {"path": str(tiny_model_folder)},
            "selection": {"budget": 8, "budget_unit": "sentences"},
            "embedding": {"shard_rows": 16},
            "finetune": {"epochs": 1},
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "output"),
        }
    )
    return Run(Store(config.store), config)
