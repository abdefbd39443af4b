"""The keys of a comparison's artifacts: what its flow gathers and its page is made of."""

from __future__ import annotations

from dataclasses import dataclass

from fishersft.numerics.greedy import BudgetUnit


@dataclass(frozen=True)
class TrainedKeys:
    """The keys of one training: what was chosen, the training, how likely it finds held-out text, and what it writes.

    `generations` is None where nothing is judged. `again` are trainings on the same choice in other orders, of which
    nothing is judged.
    """

    selection: str
    trained: str
    evaluation: str
    generations: str | None
    again: tuple[TrainedKeys, ...] = ()

    @property
    def orders(self) -> tuple[TrainedKeys, ...]:
        """The training in every order."""
        return (self, *self.again)


@dataclass(frozen=True)
class CellKeys:
    """One method at one budget with one seed, its two uniform controls, and the judges' verdicts on both pairs.

    The lists have a key a judge, in the order of the config; the first judge's verdicts are the result. `by_sentences`
    is None where nothing is compared at equal sentences.
    """

    method: str
    budget: int
    seed: int
    chosen: TrainedKeys
    by_tokens: TrainedKeys
    by_sentences: TrainedKeys | None
    judged_by_tokens: list[str]
    judged_by_sentences: list[str]

    def control(self, unit: BudgetUnit) -> tuple[TrainedKeys, list[str]]:
        """The uniform choice of as many tokens or sentences, and the verdicts against it."""
        if unit == "tokens":
            return self.by_tokens, self.judged_by_tokens
        assert self.by_sentences is not None, "asked for only where something is compared at equal sentences"
        return self.by_sentences, self.judged_by_sentences


@dataclass(frozen=True)
class DuelKeys:
    """The first method and another choice at one budget with one seed, and the judges' verdicts, a key a judge."""

    other: str
    budget: int
    seed: int
    first: TrainedKeys
    second: TrainedKeys
    judged: list[str]


@dataclass(frozen=True)
class CurveKeys:
    """A uniform choice of a multiple of a budget, with one seed."""

    budget: int
    multiple: int
    seed: int
    trained: TrainedKeys


@dataclass(frozen=True)
class ComparisonKeys:
    """The keys of all artifacts of a comparison.

    `base` is the evaluation of the model before training; `calibrations` has a key a judge; `duels` is empty where no
    head-to-head was asked for, `curve` where the uniform choice was not asked for at larger budgets.
    """

    corpus: str
    overlap: str
    base: str
    calibrations: list[str]
    cells: list[CellKeys]
    duels: list[DuelKeys]
    curve: list[CurveKeys]

    def artifacts(self) -> list[str]:
        """All of them as "kind/key", each once."""
        names = [f"corpus/{self.corpus}", f"overlap/{self.overlap}", f"evaluation/{self.base}"]
        of_cells = [trained for cell in self.cells for trained in (cell.chosen, cell.by_tokens, cell.by_sentences)]
        of_choices = filter(None, (*of_cells, *(point.trained for point in self.curve)))
        for trained in (training for choice in of_choices for training in choice.orders):
            names += [f"selection/{trained.selection}", f"training/{trained.trained}"]
            names += [f"evaluation/{trained.evaluation}"]
            names += [f"generations/{trained.generations}"] if trained.generations else []
        for cell in self.cells:
            names += [f"judgements/{key}" for key in (*cell.judged_by_tokens, *cell.judged_by_sentences)]
        names += [
            f"judgements/{key}" for key in (*self.calibrations, *(key for duel in self.duels for key in duel.judged))
        ]
        return list(dict.fromkeys(names))
