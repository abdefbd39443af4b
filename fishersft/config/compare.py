"""The configuration of a comparison: a curation run's settings, and which methods, budgets and seeds to compare."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from fishersft.config import CorpusConfig, CurateConfig, SelectionConfig
from fishersft.config.budgets import BareBudget
from fishersft.config.corpus import OF_AN_EXAMPLE
from fishersft.config.fields import Section, described, name_choices
from fishersft.config.selection import AIMED, Gradients

Method = Literal[
    "information",
    "fisher-weighted",
    "v-optimal",
    "gradient-matching",
    "longest",
    "perplexity-low",
    "perplexity-middle",
    "perplexity-high",
    "ask-llm",
    "sentence-design",
    "density",
    "clustering",
    "facility-location",
    "stratified",
    "balanced",
    "dedup",
    "dsir",
    "rds+",
    "cross-entropy-difference",
    "less",
    "less-round-robin",
    "perfect-filter",
    "target-alone",
    "large-batch",
]
# The methods that are criteria of `selection`.
CRITERIA = ("information", "fisher-weighted", "v-optimal", "gradient-matching")
NEED_SCORES = ("fisher-weighted", "perplexity-low", "perplexity-middle", "perplexity-high", "cross-entropy-difference")
# Another seed, another choice.
DRAWN = (
    "density",
    "clustering",
    "stratified",
    "balanced",
    "dedup",
    "dsir",
    "perfect-filter",
    "target-alone",
    "large-batch",
)
# Methods that compare every example with the target through a model.
TOWARDS_TARGET = ("rds+", "cross-entropy-difference", "less", "less-round-robin")
NEED_TARGET = ("dsir", "target-alone", *TOWARDS_TARGET)
# Not ways to choose from a pool, but what these are measured by.
CONTROLS = ("perfect-filter", "target-alone", "large-batch")
_BETWEEN_ORDERS = 1_000_003  # seeds; more than there are repeats, so that no two trainings share one
LARGE_BATCH = 10  # times the tokens of the budget, in as many steps
_LABELS = {
    "information": "D-optimal",
    "fisher-weighted": "Fisher-weighted",
    "v-optimal": "V-optimal",
    "gradient-matching": "gradient matching",
    "target-alone": "target alone",
    "large-batch": f"uniform, {LARGE_BATCH} times the tokens a step",
    "rds+": "RDS+",
    "cross-entropy-difference": "cross-entropy difference",
    "less": "LESS",
    "less-round-robin": "LESS, round robin",
}
_OF_A_COLUMN = ("stratified", "balanced", "perfect-filter")


class MethodConfig(Section):
    """One way to choose, to be compared with a uniform choice."""

    method: Method = described(..., 0, "Method", "A criterion of this project, or another way to choose.")
    label: str | None = described(
        None, 1, "Label", "What it is called in the tables, where a method is compared with itself; empty: its name."
    )
    regularization: float | None = described(
        None, 2, "Regularization", "lambda of this method; empty: selection.regularization.", gt=0, allow_inf_nan=False
    )
    regularization_unit: Literal["absolute", "mean token energy"] | None = described(
        None, 3, "Regularization in", "Empty: selection.regularization_unit."
    )
    column: str | None = described(
        None,
        4,
        "Column",
        "Of the corpus. For stratified: its values are the strata; empty: clusters of the embeddings, as clustering "
        "has them. For balanced: its values get equally many examples. For perfect-filter: it says which rows are "
        "good.",
    )
    keep: str | None = described(
        None, 5, "Keep", "For perfect-filter: the value of the column in good rows; values are compared as text."
    )
    with_target: bool = described(
        False,
        6,
        "With the target",
        "Train on the target's examples, each once, and on what this method chooses for the rest of the budget.",
    )
    gradients: Gradients = described(
        "last layer", 7, "Gradients", "Of gradient-matching: of the last layer, or of all linear layers."
    )
    by: Literal["examples", "prompts"] = described(
        "examples",
        8,
        "By",
        "Of information. prompts: choose as if no row had its answer yet, by all positions of the prompts; answers are "
        "trained on. For rows of prompt and completion and conversations that end with the assistant, with "
        "selection.budget_unit sentences.",
    )

    @model_validator(mode="after")
    def _settings_have_meaning(self) -> MethodConfig:
        if self.method not in (*CRITERIA, "sentence-design") and self.regularization is not None:
            raise ValueError(f"regularization has no meaning for {self.method}; leave it out")
        if self.method not in CRITERIA and self.regularization_unit is not None:
            raise ValueError(f"regularization_unit has no meaning for {self.method}; leave it out")
        if self.method not in _OF_A_COLUMN and self.column is not None:
            raise ValueError(f"column has no meaning for {self.method}; leave it out")
        if self.method != "perfect-filter" and self.keep is not None:
            raise ValueError(f"keep has no meaning for {self.method}; leave it out")
        if self.method == "balanced" and self.column is None:
            raise ValueError("balanced needs column: the one whose values get equally many examples")
        if self.method == "perfect-filter" and (self.column is None or self.keep is None):
            raise ValueError("perfect-filter needs column and keep: where rows say that they are good, and how")
        if self.method == "target-alone" and self.with_target:
            raise ValueError("with_target has no meaning for target-alone; leave it out")
        if self.method != "gradient-matching" and self.gradients == "all layers":
            raise ValueError(f"gradients: all layers has no meaning for {self.method}; leave it out")
        if self.method != "information" and self.by == "prompts":
            raise ValueError(f"by: prompts is for the method information, not {self.method}; leave it out")
        return self

    @property
    def name(self) -> str:
        """What it is called."""
        seen = ", all layers" if self.gradients == "all layers" else ", by prompts" if self.by == "prompts" else ""
        return self.label or _LABELS.get(self.method, self.method) + seen + (" + target" if self.with_target else "")

    @property
    def trains_on_target(self) -> bool:
        """Whether what is trained on holds examples of the target."""
        return self.with_target or self.method == "target-alone"


def _spelt_out(method: Any) -> Any:
    """A method's name alone stands for the method with its defaults."""
    return {"method": method} if method in get_args(Method) else method


def _without_approval(schema: dict[str, Any]) -> None:
    """The run form of a comparison, which asks nobody."""
    name_choices(schema)
    del schema["properties"]["approval"]


class CompareConfig(CurateConfig):
    """Methods against a uniform choice, at equal sentences and at equal tokens and steps, over budgets and seeds."""

    model_config = ConfigDict(json_schema_extra=_without_approval)

    methods: list[Annotated[MethodConfig, BeforeValidator(_spelt_out)]] = described(
        [{"method": "information"}],
        31,
        "Methods",
        "What is compared with a uniform choice; the uniform choice itself is always there.",
        min_length=1,
    )
    budgets: list[Annotated[BareBudget, Field(ge=1)]] = described(
        [2000, 4000],
        32,
        "Budgets",
        "How much each method chooses, such as [2000, 4k], in what selection.budget_unit counts; selection.budget has "
        "no meaning here.",
        min_length=1,
    )
    repeats: int = described(
        3,
        33,
        "Repeats",
        "Trainings of each choice, and uniform draws, with seeds from `seed` on. Under 3 says little of their luck.",
        ge=1,
    )
    orders: int = described(
        1,
        34,
        "Orders",
        "Trainings of each choice in different orders; their held-out losses are averaged. Raise it where the "
        "luck of the order hides differences.",
        ge=1,
    )
    head_to_head: bool = described(
        False,
        35,
        "Head to head",
        "Compare, and have judged, the first method with each other choice of the same budget too, not with the "
        "uniform one alone.",
    )
    judged: bool = described(
        True, 36, "Judged", "Have completions judged; off: held-out likelihood alone, for which no judge is needed."
    )
    at_equal_sentences: bool = described(
        True,
        37,
        "At equal sentences too",
        "Off: at equal tokens and steps only, which takes half as many trainings.",
    )
    uniform_at: list[Annotated[int, Field(ge=2)]] = described(
        [],
        38,
        "Uniform at multiples",
        "Train the uniform choice at these multiples of each budget too, such as [2, 4, 8]: the page then says how "
        "many uniform tokens each method is worth.",
    )
    price_per_hour: float | None = described(
        None, 39, "Price an hour", "Of the machine, in your currency; empty: no money is told.", ge=0
    )

    @model_validator(mode="after")
    def _methods_stand_for_themselves(self) -> CompareConfig:
        names = [method.name for method in self.methods]
        doubled = next((name for name in names if names.count(name) > 1), None)
        chosen = self.selection
        for wrong, message in (
            (doubled is not None, f"methods names {doubled!r} twice; give them labels that differ"),
            ("uniform" in names, "no method may be called uniform: that is what all are compared with"),
            (len(set(self.budgets)) < len(self.budgets), "budgets names one twice; name each once"),
            (
                chosen.criterion not in ("auto", "information")
                or chosen.gradients == "all layers"
                or bool(chosen.extends or chosen.exclude),
                "selection.criterion, gradients, extends and exclude have no meaning in a comparison; name the "
                "criteria and their gradients in `methods`",
            ),
            (
                self.selection.budget_unit == "sentences" and not self.at_equal_sentences,
                "selection.budget_unit sentences compares at equal sentences; leave at_equal_sentences on, or give "
                "budgets in tokens",
            ),
            (
                self.chooses_by_prompts and self.selection.budget_unit != "sentences",
                "a method by prompts chooses so many examples to have answered; set selection.budget_unit: sentences",
            ),
            (
                self.corpus.example == "prompt",
                "corpus.example prompt reads rows without their answers, and a comparison trains on these; leave it "
                "out, and give a method `by: prompts` to choose by prompts alone",
            ),
            (
                self.approval.wanted,
                "approval.wanted is for a curation run; a comparison asks nobody, so leave it out",
            ),
            (
                bool(chosen.quotas) or chosen.stop_below > 0,
                "selection.quotas and selection.stop_below bind some methods only, so nothing would be equal; "
                "leave them out",
            ),
            (
                self.finetune.early_stopping is not None,
                "finetune.early_stopping would end trainings that are compared after unequal steps; leave it out",
            ),
            (
                bool(self.evaluation.harness_tasks),
                "evaluation.harness_tasks are for `fishersft curate`; leave them out of a comparison",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _the_target_serves_its_methods(self) -> CompareConfig:
        aimed = [method.name for method in self.methods if method.method in NEED_TARGET or method.with_target]
        if aimed and self.target is None:
            raise ValueError(
                f"{', '.join(aimed)} {'needs' if len(aimed) == 1 else 'need'} a target, a sample of what the model "
                "will be used on; name it in `target`"
            )
        trained = [method.name for method in self.methods if method.trains_on_target]
        if trained and self.target is not None and (unlike := self._read_otherwise(self.target)):
            raise ValueError(
                f"{', '.join(trained)} would train on the target's rows read by the corpus's settings, but "
                f"target.{unlike} and corpus.{unlike} differ; make them equal"
            )
        return self

    def _read_otherwise(self, target: CorpusConfig) -> str | None:
        """The first setting by which the target's rows become other examples than the corpus's."""
        unlike = [name for name in sorted(OF_AN_EXAMPLE) if getattr(target, name) != getattr(self.corpus, name)]
        if target.chat_template not in (None, self.corpus.chat_template):
            unlike.append("chat_template")
        return unlike[0] if unlike else None

    @model_validator(mode="after")
    def _every_criterion_can_choose(self) -> CompareConfig:
        for method in self.methods:
            if method.method in CRITERIA:
                SelectionConfig.model_validate(self.choosing(method, self.budgets[0]).selection.model_dump())
        return self

    @model_validator(mode="after")
    def _target_fits(self) -> Self:
        return self  # what needs a target and has none aims at the pool; what has no use for one has none

    @property
    def seeds(self) -> list[int]:
        """Of the trainings and draws."""
        return [self.seed + number for number in range(self.repeats)]

    def embedded(self) -> CurateConfig:
        """The settings to embed the pool with once, for all methods."""
        return self._with_selection(None, criterion=self._embedded_for("information"))

    def choosing(self, method: MethodConfig, budget: int) -> CurateConfig:
        """The settings under which a method that is a criterion chooses."""
        return self._with_selection(
            self.target if method.method in AIMED else None,
            criterion=method.method,
            budget=budget,
            regularization=method.regularization or self.selection.regularization,
            regularization_unit=method.regularization_unit or self.selection.regularization_unit,
            gradients=method.gradients,
        )

    @property
    def perfect_filter(self) -> MethodConfig | None:
        """The first method that is a perfect filter."""
        return next((method for method in self.methods if method.method == "perfect-filter"), None)

    @property
    def matches_all_layers(self) -> bool:
        """Whether a method matches the gradients of all layers."""
        return any(method.gradients == "all layers" for method in self.methods)

    @property
    def chooses_by_prompts(self) -> bool:
        """Whether a method chooses by the prompts alone."""
        return any(method.by == "prompts" for method in self.methods)

    def prompted(self) -> CurateConfig:
        """The settings under which the pool's rows are prompts without answers, and embedded."""
        settings = self._with_selection(None, criterion="information")
        return settings.model_copy(update={"corpus": self.corpus.model_copy(update={"example": "prompt"})})

    def aiming(self) -> CurateConfig:
        """The settings under which the target is read and embedded."""
        return self._with_selection(self.target, criterion=self._embedded_for("v-optimal"))

    def _embedded_for(self, otherwise: str) -> str:
        """The criterion under which embedding gives all that the methods need beside the embeddings."""
        wanted = {method.method for method in self.methods if method.gradients == "last layer"}
        if "gradient-matching" in wanted:
            return "gradient-matching"
        return "fisher-weighted" if wanted & set(NEED_SCORES) else otherwise

    def steps_an_epoch(self, tokens: int) -> int:
        """Optimiser steps that so many tokens fill: what is equal in tokens takes equal steps."""
        return max(1, round(tokens / self.finetune.batch_tokens))

    def seeded(self, seed: int, order: int = 0) -> CurateConfig:
        """The settings of a training with another seed; all that is read or measured goes by this comparison's own.

        Args:
            order: the number of the training's order, from 0; the first goes by the seed itself.
        """
        return self.model_copy(update={"seed": seed + order * _BETWEEN_ORDERS})

    def _with_selection(self, target: CorpusConfig | None, **changes: Any) -> CurateConfig:
        """The settings of a run with another selection, and none of a comparison's own."""
        own = {name: getattr(self, name) for name in CurateConfig.model_fields}
        changed = {"target": target, "selection": self.selection.model_copy(update=changes)}
        return CurateConfig.model_construct(**{**own, **changed})
