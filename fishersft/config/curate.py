"""The settings of a curation run: the same model serves YAML files, the command line and Prefect's run form."""

from __future__ import annotations

import os
from typing import Annotated, Self

from pydantic import model_validator

from fishersft.config.approval import ApprovalConfig
from fishersft.config.corpus import CorpusConfig
from fishersft.config.evaluation import EvaluationConfig
from fishersft.config.fields import NoCredentials, Section, described
from fishersft.config.finetune import FinetuneConfig
from fishersft.config.model import EmbeddingConfig, ModelConfig
from fishersft.config.selection import AIMED, Criterion, SelectionConfig


class CurateConfig(Section):
    """One curation run: choose the most informative part of a corpus and measure what it is worth."""

    # Positions are ten apart, so that a comparison's own settings come where they belong in its run form.

    name: str = described(
        "curation",
        0,
        "Name",
        "Names the run: lower-case letters, digits and dashes.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    store: Annotated[str, NoCredentials] = described(
        "store", 10, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = described(
        "output",
        20,
        "Output",
        "Where the curated dataset, the model and the report go: a folder or s3:// URL.",
        min_length=1,
    )
    corpus: CorpusConfig = described(..., 25, "Corpus", "The pool to choose from.")
    target: CorpusConfig | None = described(
        None,
        30,
        "Target",
        "A sample of what the model will be used on, with the settings that `corpus` has: examples are then chosen "
        "towards it (gradient-matching, v-optimal). All of it counts, none is held out; it should share no example "
        "with what the outcome is measured on.",
    )
    model: ModelConfig = described(ModelConfig(), 40, "Model", "The model to choose for.")
    selection: SelectionConfig = described(SelectionConfig(), 50, "Selection", "The budget and the criterion.")
    approval: ApprovalConfig = described(
        ApprovalConfig(), 60, "Approval", "Of a curation run: whether somebody looks at the choice before training."
    )
    finetune: FinetuneConfig = described(FinetuneConfig(), 70, "Fine-tuning", "Training on what was chosen.")
    evaluation: EvaluationConfig = described(EvaluationConfig(), 80, "Evaluation", "How the outcome is measured.")
    embedding: EmbeddingConfig = described(EmbeddingConfig(), 90, "Embedding", "Shards and batches.")
    device: str | None = described(None, 100, "Device", "cpu, cuda or cuda:N; empty: a GPU if there is one.")
    seed: int = described(0, 110, "Seed", "Of sampling, the held-out split, training and generating.", ge=0)

    def chosen_criterion(self) -> tuple[Criterion, str]:
        """The criterion that a selection goes by, and why.

        The rule of `criterion: auto`: gradient-matching towards a target, which beat a uniform choice in the measured
        experiments; information, the paper's, without a target, and where something is asked for that gradient-matching
        does not have. Information is also what suits prompts without answers, whose gradients are not known.
        """
        if self.selection.criterion != "auto":
            return self.selection.criterion, "as set"
        if self.corpus.example == "prompt":
            unused = "" if self.target is None else ", so the target is not used"
            return "information", f"rows hold prompts without answers, whose gradients are not known{unused}"
        if self.target is None:
            return "information", "there is no target to choose towards"
        if asked := self.selection.not_matched():
            return "information", f"gradient-matching has no {' or '.join(asked)}, so the target is not used"
        return "gradient-matching", "there is a target"

    @property
    def matches_all_layers(self) -> bool:
        """Whether gradients of all layers are matched, which are artifacts of their own."""
        return self.chosen_criterion()[0] == "gradient-matching" and self.selection.gradients == "all layers"

    def criterion_in_words(self) -> str:
        """One line: the criterion and why it is that."""
        criterion, why = self.chosen_criterion()
        return f"Criterion: {criterion} ({'auto: ' if self.selection.criterion == 'auto' else ''}{why})"

    def resolved(self) -> Self:
        """The settings with the criterion that `auto` stands for, and without a target that it does not use."""
        if self.selection.criterion != "auto":
            return self
        criterion, _ = self.chosen_criterion()
        selection = self.selection.model_copy(update={"criterion": criterion})
        return self.model_copy(update={"selection": selection, "target": self.target if criterion in AIMED else None})

    @model_validator(mode="after")
    def _target_fits(self) -> Self:
        criterion = self.selection.criterion
        if criterion == "v-optimal" and self.target is None:
            raise ValueError(
                "criterion v-optimal needs a target, a sample of what the model will be used on; name one in `target`"
            )
        if criterion not in ("auto", *AIMED) and self.target is not None:
            raise ValueError(
                f"a target is for the criteria {' and '.join(AIMED)}, not {criterion}; leave one of the two out"
            )
        chosen, _ = self.chosen_criterion()
        if self.selection.gradients == "all layers" and chosen != "gradient-matching":
            raise ValueError(
                f"gradients: all layers is for criterion gradient-matching, not {chosen}; choose that, or leave "
                "gradients out"
            )
        return self

    @model_validator(mode="after")
    def _prompts_are_chosen_by_themselves(self) -> Self:
        measured, aim = self.evaluation.corpus, self.target
        if measured is not None and measured.example == "prompt":
            raise ValueError("evaluation.corpus.example prompt: nothing can be measured on prompts; name answered rows")
        if aim is not None and aim.example == "prompt" and self.chosen_criterion()[0] == "gradient-matching":
            raise ValueError(
                "target.example prompt: the gradients of prompts without answers are not known, so none can be "
                "matched; name a target of answered rows, or take criterion v-optimal"
            )
        if self.corpus.example != "prompt":
            return self
        if self.selection.criterion == "gradient-matching":
            raise ValueError(
                "criterion gradient-matching needs answers, and corpus.example is prompt; take auto or information"
            )
        if "budget_unit" not in self.selection.model_fields_set:
            self.selection = self.selection.model_copy(update={"budget_unit": "sentences"})
        if "held_out_fraction" not in self.corpus.model_fields_set:
            self.corpus = self.corpus.model_copy(update={"held_out_fraction": 0.0})
        return self

    @model_validator(mode="after")
    def _workers_find_the_store(self) -> CurateConfig:
        relative = "://" not in self.store and not os.path.isabs(self.store)
        if self.embedding.deployment is not None and relative:
            raise ValueError(
                f"embedding.deployment is {self.embedding.deployment}, whose workers would each look for the store "
                f"{self.store!r} in a folder of their own; name a URL such as s3://bucket/prefix, or the full path of "
                "a folder that all of them share"
            )
        return self
