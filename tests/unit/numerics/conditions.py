"""Random conditions on a selection, and what they allow, for the tests of the numerics."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def random_conditions(draw: st.DrawFn, blocks: list[np.ndarray]) -> dict[str, Any]:
    """Keyword arguments of `select`: a budget in either unit, and conditions that do not contradict each other."""
    number = len(blocks)
    roles = draw(st.lists(st.sampled_from("....ie"), min_size=number, max_size=number))
    include = [i for i, role in enumerate(roles) if role == "i" and len(blocks[i])]
    exclude = [i for i, role in enumerate(roles) if role == "e"]
    groups = draw(st.lists(st.sampled_from(["verse", "prose", "play"]), min_size=number, max_size=number))
    quotas = {}
    for group in draw(st.sets(st.sampled_from(sorted(set(groups))))):
        wanted = sum(groups[i] == group for i in include)
        quotas[group] = draw(st.integers(wanted, wanted + 2))
    unit = draw(st.sampled_from(["sentences", "tokens"]))
    costs = costs_of(blocks, unit)
    least = max(1, sum(costs[i] for i in include))
    return {
        "budget": draw(st.integers(least, max(least, sum(costs)) + 1)),
        "budget_unit": unit,
        "include": draw(st.permutations(include)),
        "exclude": exclude,
        "groups": groups,
        "quotas": quotas,
    }


def costs_of(blocks: list[np.ndarray], unit: str) -> list[int]:
    """Of each block, in the unit of the budget."""
    return [len(block) if unit == "tokens" else 1 for block in blocks]


def obeys(chosen: list[int], blocks: list[np.ndarray], asked: dict[str, Any]) -> bool:
    """Whether a set of blocks is a selection that budget and conditions allow."""
    costs = costs_of(blocks, asked["budget_unit"])
    in_group = [sum(asked["groups"][i] == group for i in chosen) for group in asked["quotas"]]
    return (
        sum(costs[i] for i in chosen) <= asked["budget"]
        and all(len(blocks[i]) for i in chosen)
        and set(asked["include"]) <= set(chosen)
        and not set(asked["exclude"]) & set(chosen)
        and all(held <= quota for held, quota in zip(in_group, asked["quotas"].values(), strict=True))
    )
