"""What a simulation found, as data: errors of every method at every budget, with intervals over the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fishersft.reporting.summary import Facts, Interval

Measure = Literal["max_error", "mean_error"]
MEASURES: dict[Measure, str] = {"max_error": "largest error", "mean_error": "mean error"}


class ErrorRow(Facts):
    """The errors of a method at a budget.

    Attributes:
        dim, classes: of the problem.
        budget: in sentences.
        max_error, mean_error: over all sentences of the pool; the mean over seeds, with its interval.
        max_ratio, mean_ratio: this method's error by that of the first, paired by seed; None for the first itself.
        max_p, mean_p: of a ratio of 1, corrected for the number of comparisons; None for the first.
    """

    method: str
    dim: int
    classes: int
    budget: int
    max_error: Interval
    mean_error: Interval
    max_ratio: Interval | None = None
    max_p: float | None = None
    mean_ratio: Interval | None = None
    mean_p: float | None = None


class SlopeRow(Facts):
    """How fast a method's error falls with the budget: the slope of its logarithm over that of the budget."""

    method: str
    max_error: Interval
    mean_error: Interval


class Simulation(Facts):
    """What a simulation found.

    Attributes:
        first: the method that the others are compared with.
        rows: of the main problem by method and budget, then of the others at the largest budget.
        slopes: on the main problem, by method; none where there is one budget.
        config: as it was run.
    """

    name: str
    headline: str
    first: str
    seeds: int
    rows: list[ErrorRow]
    slopes: list[SlopeRow]
    config: dict[str, Any]

    @property
    def main(self) -> list[ErrorRow]:
        """The rows of the main problem."""
        dim, classes = self.rows[0].dim, self.rows[0].classes
        return [row for row in self.rows if (row.dim, row.classes) == (dim, classes)]

    @property
    def trends(self) -> list[ErrorRow]:
        """The rows of all problems at the largest budget."""
        largest = max(row.budget for row in self.rows)
        return [row for row in self.rows if row.budget == largest]


def read_simulation(path: Path) -> Simulation:
    """The simulation that `write_simulation` wrote."""
    return Simulation.model_validate_json(path.read_bytes())
