"""How long the two sides of a comparison train."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fishersft.config.compare import CompareConfig
from fishersft.steps.chosen_from import ChosenFrom
from flows import compare as flow

# What is chosen has 20 tokens, what is drawn has 100; a step has 5.
CHOSEN, DRAWN = {"sentences": 10, "tokens": 20}, {"sentences": 10, "tokens": 100}


@pytest.mark.parametrize(("by", "steps"), [("prompts", [4, 4, 4]), ("examples", [4, 4, 20])])
def test_who_has_as_many_prompts_answered_trains_for_as_many_steps(
    by: str, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CompareConfig.model_validate(
        {
            "corpus": {"path": "pool.jsonl"},
            "selection": {"budget_unit": "sentences"},
            "finetune": {"batch_tokens": 5},
            "methods": [{"method": "information", "by": by}],
            "budgets": [10],
            "judged": False,
        }
    )
    monkeypatch.setattr(flow.tasks, "select_by", lambda *_: SimpleNamespace(key="chosen", facts=CHOSEN))
    monkeypatch.setattr(flow.tasks, "draw_uniformly", lambda *_: SimpleNamespace(key="drawn", facts=DRAWN))
    trained = list[int]()

    def train(_: Any, chosen: Any, steps: int, seed: int, what: str) -> flow.TrainedKeys:
        trained.append(steps)
        return flow.TrainedKeys(chosen.key, "training", "evaluation", None)

    monkeypatch.setattr(flow._Trainings, "_train", train)
    flow._Trainings(config, ChosenFrom("corpus", [])).cell(config.methods[0], 10, 0)
    assert trained == steps
