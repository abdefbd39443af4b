"""What trials say together: the errors of every method, beside those of the first, and one sentence on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fishersft.config.simulation import SimulationConfig
from fishersft.experiments.trial import Trial
from fishersft.numerics.crossed import holm
from fishersft.numerics.over_seeds import log_log_slope, mean_over_seeds, ratio_over_seeds
from fishersft.reporting.simulation import MEASURES, ErrorRow, Measure, Simulation, SlopeRow
from fishersft.reporting.summary import Interval

_Key = tuple[int, int, str, int]  # dimensions, classes, method, budget


def findings(config: SimulationConfig, trials: Sequence[Sequence[Trial]]) -> Simulation:
    """The findings of a simulation.

    Args:
        trials: of each setting and then each seed, in the order of the config.
    """
    errors = _errors(config, trials)
    rows = _corrected([_row(config, errors, key) for key in errors])
    return Simulation(
        name=config.name,
        headline=_headline(config, rows),
        first=config.methods[0],
        seeds=config.repeats,
        rows=rows,
        slopes=_slopes(config, errors),
        config=config.model_dump(mode="json"),
    )


def _errors(config: SimulationConfig, trials: Sequence[Sequence[Trial]]) -> dict[_Key, dict[Measure, np.ndarray]]:
    """The errors of each method at each budget of each problem, one a seed."""
    errors = dict[_Key, dict[Measure, np.ndarray]]()
    for number, (dim, classes) in enumerate(config.settings):
        of_setting = trials[number * config.repeats : (number + 1) * config.repeats]
        for same in zip(*of_setting, strict=True):
            key = dim, classes, same[0].method, same[0].budget
            errors[key] = {measure: np.array([getattr(trial, measure) for trial in same]) for measure in MEASURES}
    return errors


def _row(config: SimulationConfig, errors: dict[_Key, dict[Measure, np.ndarray]], key: _Key) -> ErrorRow:
    dim, classes, method, budget = key
    mine, first = errors[key], errors[dim, classes, config.methods[0], budget]
    row = ErrorRow(
        method=method,
        dim=dim,
        classes=classes,
        budget=budget,
        max_error=Interval.of(mean_over_seeds(mine["max_error"])),
        mean_error=Interval.of(mean_over_seeds(mine["mean_error"])),
    )
    if method == config.methods[0]:
        return row
    largest, mean = (ratio_over_seeds(mine[measure], first[measure]) for measure in MEASURES)
    found = {"max_ratio": Interval.of(largest), "max_p": largest.p, "mean_ratio": Interval.of(mean), "mean_p": mean.p}
    return row.model_copy(update=found)


def _corrected(rows: list[ErrorRow]) -> list[ErrorRow]:
    """The rows with p-values corrected within each measure."""
    compared = [row for row in rows if row.max_p is not None and row.mean_p is not None]
    largest = iter(holm([row.max_p or 0.0 for row in compared]))
    mean = iter(holm([row.mean_p or 0.0 for row in compared]))
    return [
        row.model_copy(update={"max_p": next(largest), "mean_p": next(mean)}) if row.max_p is not None else row
        for row in rows
    ]


def _slopes(config: SimulationConfig, errors: dict[_Key, dict[Measure, np.ndarray]]) -> list[SlopeRow]:
    if len(config.budgets) < 2:
        return []
    dim, classes = config.settings[0]
    budgets = sorted(config.budgets)
    slopes = []
    for method in config.methods:
        of_method = [errors[dim, classes, method, budget] for budget in budgets]
        largest, mean = (
            log_log_slope(np.array(budgets, dtype=float), np.stack([each[measure] for each in of_method], axis=1))
            for measure in MEASURES
        )
        slopes.append(SlopeRow(method=method, max_error=Interval.of(largest), mean_error=Interval.of(mean)))
    return slopes


def _headline(config: SimulationConfig, rows: list[ErrorRow]) -> str:
    """Where the first method's largest error is above another's, and where below."""
    first = config.methods[0]
    compared = [(row.method, row.max_ratio.value, row.max_p) for row in rows if row.max_ratio and row.max_p is not None]
    clear = [(method, ratio) for method, ratio, p in compared if p < 0.05]
    below = sum(ratio > 1 for _, ratio in clear)
    above = [method for method, ratio in clear if ratio < 1]
    total = len(compared)
    told = f"{first} has the smaller largest error in {below} of {total} comparisons with other methods"
    if above:
        against = ", ".join(dict.fromkeys(above))
        return f"{told}, and the larger in {len(above)} (with {against}); in the rest no difference was shown"
    rest = total - below
    return f"{told}; in the other {rest} no difference was shown" if rest else told
