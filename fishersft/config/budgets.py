"""Budgets as people write them: 20000, "20k", "20k tokens", "500 examples"."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

BudgetUnit = Literal["sentences", "tokens"]

_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([km]?)\s*(tokens?|examples?|sentences?)?\s*", re.IGNORECASE)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def parsed_budget(text: str) -> tuple[int, BudgetUnit | None]:
    """The number that a budget is, and its unit where it names one.

    Args:
        text: a number, with k (thousand) or m (million) and with tokens, examples or sentences behind it if you like.

    Raises:
        ValueError: the text is something else, or no whole number.

    Example:
        >>> parsed_budget("20k tokens"), parsed_budget("1.5k"), parsed_budget("500 examples")
        ((20000, 'tokens'), (1500, None), (500, 'sentences'))
    """
    found = _BUDGET.fullmatch(text)
    number = float(found[1]) * _TIMES[found[2].lower()] if found else 0.5
    if found is None or number != round(number):
        raise ValueError(f"budget {text!r}: expected a number such as 20000, 20k, 20k tokens or 500 examples")
    unit = (found[3] or "").lower()
    if not unit:
        return round(number), None
    return round(number), "tokens" if unit.startswith("token") else "sentences"


def _bare_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number, unit = parsed_budget(value)
    if unit is not None:
        raise ValueError(f"budget {value!r}: leave the unit out here; selection.budget_unit has it")
    return number


_IN_THE_FORM = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]})
Budget = Annotated[int, _IN_THE_FORM]
BareBudget = Annotated[int, BeforeValidator(_bare_number), _IN_THE_FORM]
