"""The settings of a selection: how much, by what, and under which conditions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fishersft.config.budgets import Budget, BudgetUnit, parsed_budget
from fishersft.config.fields import Section, described

AIMED = ("v-optimal", "gradient-matching")  # the criteria that may have a target
Gradients = Literal["last layer", "all layers"]
Criterion = Literal["information", "fisher-weighted", "v-optimal", "gradient-matching"]
MEMORY_PATTERN = r"^\d+(\.\d+)?[KMGT]?B?$"


class SelectionConfig(Section):
    """What to choose, how much, and under which conditions."""

    budget: Budget = described(
        20_000,
        0,
        "Budget",
        "How much to choose: a number such as 20000 or 20k, or with its unit, such as 20k tokens or 500 examples.",
        ge=1,
    )
    budget_unit: BudgetUnit = described(
        "tokens",
        1,
        "Budget in",
        "What a budget without a unit counts: loss tokens, or sentences, which are training examples. Of prompts "
        "without answers it counts sentences where nothing else is set.",
    )
    stop_below: float = described(
        0.0,
        2,
        "Stop below",
        "End before the budget is spent, at the first pick that would add less than this many nats (with v-optimal: "
        "take less off the variance). 0: never.",
        ge=0,
        allow_inf_nan=False,
    )
    criterion: Literal["auto", "information", "fisher-weighted", "v-optimal", "gradient-matching"] = described(
        "auto",
        3,
        "Criterion",
        "auto: gradient-matching where there is a target, else information, and information where something is asked "
        "for that gradient-matching lacks (frank-wolfe, stop_below, project_to) or rows are prompts without answers; "
        "the run says what it chose and why. information: the paper's, in which every token counts the same. "
        "fisher-weighted: a token counts by how uncertain the model is about it, 1 - sum p^2 over the vocabulary; "
        "embedding then applies the LM head too. v-optimal: the least mean prediction variance on the target; it has "
        "no certificate. gradient-matching: the choice whose gradients sum up to what the pool's (or the target's) do; "
        "so it heeds what the examples say, which the others do not.",
    )
    regularization: float = described(
        1.0, 5, "Regularization", "lambda, the prior's weight in the information matrix.", gt=0, allow_inf_nan=False
    )
    regularization_unit: Literal["absolute", "mean token energy"] = described(
        "absolute",
        6,
        "Regularization in",
        "absolute: units of the squared embeddings. mean token energy: a share of the pool's mean squared norm of a "
        "token's embedding.",
    )
    project_to: int | None = described(
        None,
        7,
        "Project to",
        "Choose in this many principal directions of the pool, which is faster; what it can have cost is proven and "
        "reported. Empty: all directions.",
        ge=1,
    )
    quota_column: str | None = described(None, 8, "Quota column", "The column of the corpus that quotas go by.")
    quotas: dict[str, Annotated[int, Field(ge=0)]] = described(
        {},
        9,
        "Quotas",
        'At most how many sentences of a value of that column, such as {"news": 100, "forum": 50}; values are compared '
        "as text, and those not named are not limited.",
    )
    extends: str | None = described(
        None,
        10,
        "Extends",
        "The key of an earlier selection in the store: its examples are not chosen again, and gains count what they "
        "tell already, as they do of any selection that it extends itself. `previous`: that of the last finished run "
        "of this name, if there is one.",
        pattern="^([0-9a-f]{64}|previous)$",
    )
    exclude: list[Annotated[str, Field(pattern="^[0-9a-f]{12}([0-9a-f]{52})?$")]] = described(
        [],
        11,
        "Exclude",
        "Examples that are never chosen, by the ids that tables of chosen examples show. They stay in the corpus; the "
        "uniform choice leaves them out too.",
    )
    certificate: Literal["prefix", "frank-wolfe"] = described(
        "prefix",
        12,
        "Proof",
        "How near to the best possible is proven: prefix, at no cost; frank-wolfe, tighter, after the selection.",
    )
    certificate_seconds: float = described(
        60.0, 13, "Seconds for the proof", "At most this long for frank-wolfe.", gt=0, allow_inf_nan=False
    )
    algorithm: Literal["lazy", "paper", "naive"] = described(
        "lazy", 14, "Algorithm", "All give the same picks (with v-optimal lazy may not); naive and paper are slow."
    )
    memory: str = described(
        "768M",
        15,
        "Most memory",
        "Embeddings that take more than this stay on disk while they are chosen from, and the choice keeps within it: "
        "bytes, or a number with K, M, G or T behind it. gradient-matching takes 16K a sentence beside "
        "that, with extends or exclude 32K.",
        pattern=MEMORY_PATTERN,
    )
    gradients: Gradients = described(
        "last layer",
        16,
        "Gradients",
        "Of gradient-matching: the gradients of the last layer (the LM head), which cost next to nothing while "
        "embedding, or those of all linear layers, which take a forward and a backward pass over the pool and the "
        "target.",
    )

    def not_matched(self) -> list[str]:
        """What is asked for that gradient-matching does not have, by the settings' names."""
        asked = {
            "certificate": self.certificate == "frank-wolfe",
            "stop_below": self.stop_below > 0,
            "project_to": self.project_to is not None,
            "algorithm": self.algorithm != "lazy",
        }
        return [name for name, wanted in asked.items() if wanted]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if "target" in values:
            raise ValueError("target is a setting of its own now, beside `corpus`; move it out of `selection`")
        if not isinstance(values.get("budget"), str):
            return values
        budget, unit = parsed_budget(values["budget"])
        return {**values, "budget": budget, **({} if unit is None else {"budget_unit": unit})}

    @model_validator(mode="after")
    def _agrees(self) -> SelectionConfig:
        for wrong, message in (
            (
                self.criterion == "v-optimal" and self.algorithm == "paper",
                "criterion v-optimal has the algorithms lazy and naive; paper needs submodularity",
            ),
            (
                self.criterion in AIMED and self.certificate == "frank-wolfe",
                f"criterion {self.criterion} has no certificate; leave certificate frank-wolfe out",
            ),
            (
                self.criterion == "gradient-matching" and (self.stop_below > 0 or self.algorithm != "lazy"),
                "criterion gradient-matching has no stop_below, and one algorithm; leave them out",
            ),
            (
                self.project_to is not None and (self.criterion in AIMED or self.extends is not None),
                "project_to cannot be used with criterion v-optimal, gradient-matching or extends: its loss is not "
                "bounded there; leave it out",
            ),
            (
                (self.quota_column is None) != (not self.quotas),
                "quota_column and quotas go together: the column, and how many of which of its values; give both or "
                "neither",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self
