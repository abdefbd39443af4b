"""The settings of a simulation: problems whose answer is known, so that a choice's error can be measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fishersft.config.fields import NoCredentials, Section, described
from fishersft.experiments.trial import Chooser
from fishersft.experiments.word_problem import Features

Sizes = list[Annotated[int, Field(ge=1)]]


class SimulationConfig(Section):
    """Sentences from a softmax model, chosen by every method; the model fitted to them, and its errors."""

    name: str = described(
        "synthetic", 0, "Name", "Names the run: lower-case letters, digits and dashes.", pattern=r"^[a-z0-9][a-z0-9-]*$"
    )
    store: Annotated[str, NoCredentials] = described(
        "store", 10, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = described(
        "output", 20, "Output", "Where tables and figures go: a folder or s3:// URL.", min_length=1
    )
    features: Features = described(
        "independent",
        30,
        "Features",
        "Of words drawn apart from the tokens (as the theory has it), or of the sentence's own tokens (as in a "
        "language model); redrawn: of own tokens, but with tokens drawn anew after them.",
    )
    vectors: Annotated[str | None, NoCredentials] = described(
        None,
        40,
        "Word vectors",
        "A word2vec or GloVe text file, most frequent words first, or a model whose input embeddings are taken (as "
        "model.path has it); empty: normal vectors.",
    )
    words: int = described(500, 50, "Words", "How many different features there are, where they are independent.", ge=2)
    dims: Sizes = described([10], 60, "Dimensions", "Of the features; trends are over all, the rest of the first.")
    classes: Sizes = described([20], 70, "Classes", "Different tokens; trends are over all, the rest of the first.")
    sentences: int = described(3000, 80, "Sentences", "In the pool.", ge=2)
    tokens: int = described(20, 90, "Tokens", "In each sentence.", ge=1)
    budgets: Sizes = described([50, 100, 200, 500, 1000], 100, "Budgets", "In sentences; trends are at the largest.")
    methods: list[Chooser] = described(
        ["D-optimal", "uniform", "density", "sentence-design", "clustering", "gradient-matching", "two-round matching"],
        110,
        "Methods",
        "The first is what the others are compared with.",
        min_length=2,
    )
    regularization: float = described(
        1.0, 120, "Regularization", "lambda of the designs, in the units of the squared features.", gt=0
    )
    repeats: int = described(20, 130, "Repeats", "Trials, with seeds from `seed` on.", ge=2)
    seed: int = described(0, 140, "Seed", "Of the first trial.", ge=0)

    @model_validator(mode="after")
    def _budgets_leave_a_choice(self) -> SimulationConfig:
        if max(self.budgets) >= self.sentences:
            raise ValueError(f"budgets has {max(self.budgets)}, which is all of {self.sentences} sentences")
        if self.vectors is not None and self.features != "independent":
            raise ValueError("vectors are of words, which features of own tokens have none of; leave one of them out")
        for name in ("dims", "classes", "budgets", "methods"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice; name each once")
        return self

    @property
    def seeds(self) -> list[int]:
        """Of the trials."""
        return [self.seed + number for number in range(self.repeats)]

    @property
    def settings(self) -> list[tuple[int, int]]:
        """Dimensions and classes of all problems, the main one first."""
        main = self.dims[0], self.classes[0]
        return [main, *((dim, main[1]) for dim in self.dims[1:]), *((main[0], many) for many in self.classes[1:])]

    def budgets_at(self, setting: tuple[int, int]) -> list[int]:
        """The budgets of a problem: all of the main one, the largest of others."""
        return sorted(self.budgets) if setting == self.settings[0] else [max(self.budgets)]
