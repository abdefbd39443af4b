"""The settings of the experiment on frozen features: labelled texts, their features, and a head trained on a choice."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fishersft.config.fields import NoCredentials, Section, described
from fishersft.config.model import ModelConfig
from fishersft.experiments.frozen_split import MULTIPLES, SplitDesign


class FrozenFeaturesConfig(Section):
    """Labelled texts, chosen by every method; a classifier head trained on a model's frozen features, and its loss."""

    name: str = described(
        "frozen-features",
        0,
        "Name",
        "Names the run: lower-case letters, digits and dashes.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    store: Annotated[str, NoCredentials] = described(
        "store", 10, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = described(
        "output", 20, "Output", "Where the tables go: a folder or s3:// URL.", min_length=1
    )
    texts: str = described(
        ..., 30, "Texts", "A folder with a file LABEL.txt for each label, texts between blank lines.", min_length=1
    )
    fewest: int = described(150, 40, "Fewest texts", "Labels with fewer texts are left out.", ge=1)
    most: int = described(2000, 50, "Most texts", "A random sample of so many is embedded.", ge=1)
    model: ModelConfig = described(ModelConfig(max_tokens=48), 60, "Model", "max_tokens counts a text's tokens.")
    question: str = described("\nTopic:", 70, "Question", "Follows each text; its last token predicts the answer.")
    pool: int = described(1500, 80, "Pool", "Texts to choose from, in each split.", ge=1)
    held_out: int = described(500, 90, "Held out", "Texts to measure on, in each split.", ge=1)
    budgets: list[Annotated[int, Field(ge=2)]] = described(
        [100, 300], 100, "Budgets", "In examples. The primary hypothesis is about the largest.", min_length=1
    )
    draws: int = described(5, 110, "Draws", "What draws at random is the mean of so many draws.", ge=1)
    ridges: list[Annotated[float, Field(gt=0)]] = described(
        [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0],
        120,
        "Ridges",
        "Cross-validation on the uniform choice picks one for each split and budget.",
        min_length=1,
    )
    folds: int = described(5, 130, "Folds", "Of the cross-validation.", ge=2)
    splits: int = described(10, 140, "Splits", "Draws of pool and held-out texts, with seeds from `seed` on.", ge=2)
    seed: int = described(0, 150, "Seed", "Of the sample of texts, and of the first split.", ge=0)

    @model_validator(mode="after")
    def _budgets_leave_a_choice(self) -> FrozenFeaturesConfig:
        largest = MULTIPLES[-1] * max(self.budgets)
        if largest > self.pool:
            raise ValueError(
                f"budgets has {max(self.budgets)}, and uniform is measured at {MULTIPLES[-1]} times that, {largest}, "
                f"but the pool has {self.pool}"
            )
        if len(set(self.budgets)) < len(self.budgets):
            raise ValueError("budgets names one twice; name each once")
        if min(self.budgets) < self.folds:
            raise ValueError(f"budgets has {min(self.budgets)}, too few for {self.folds} folds")
        return self

    @property
    def seeds(self) -> list[int]:
        """Of the splits."""
        return [self.seed + number for number in range(self.splits)]

    @property
    def design(self) -> SplitDesign:
        """Of each split."""
        return SplitDesign(self.pool, self.held_out, sorted(self.budgets), self.draws, self.ridges, self.folds)
