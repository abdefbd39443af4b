"""The settings of a speed trial: a curation run's corpus and model, and how long each form of the greedy may take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from fishersft.config import CurateConfig
from fishersft.config.fields import described, name_choices

_UNUSED = ("approval", "finetune", "evaluation")


def _form(schema: dict[str, Any]) -> None:
    name_choices(schema)
    for name in _UNUSED:
        del schema["properties"][name]


class SpeedConfig(CurateConfig):
    """Algorithms 1 and 2 as published, and the engine, on a corpus's embeddings."""

    model_config = ConfigDict(json_schema_extra=_form)

    budgets: list[Annotated[int, Field(ge=1)]] = described(
        [1, 5, 20, 100, 500], 51, "Budgets", "In sentences; selection.budget has no meaning here.", min_length=1
    )
    seconds: float = described(
        120.0,
        52,
        "Seconds",
        "After which an algorithm is stopped; longer budgets are then estimated or left out.",
        gt=0,
    )
