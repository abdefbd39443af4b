"""The speed of each form of the greedy as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fishersft.experiments.speed import Timing
from fishersft.numerics.selection import Algorithm
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.tables import markdown_table
from fishersft.reporting.text import count, number

NAMES: dict[Algorithm, str] = {
    "naive": "Algorithm 1 (naive)",
    "paper": "Algorithm 2 (fast, as published)",
    "lazy": "this engine",
}


def speed_sheet(timings: Sequence[Timing]) -> Sheet:
    """Seconds by budget; "about" where they were not measured to the end."""
    found = {(timing.algorithm, timing.budget): timing for timing in timings}
    rows = []
    for budget in sorted({timing.budget for timing in timings}):
        naive, paper, lazy = (found[name, budget] for name in NAMES)
        cells = (*(_seconds(timing) for timing in (naive, paper, lazy)), _times(naive, paper), _times(naive, lazy))
        rows.append(Row((count(budget),), cells))
    columns = ("Sentences", *(f"{name}, s" for name in NAMES.values()), "1 by 2", "1 by the engine")
    return Sheet("Seconds to choose", columns, rows)


def write_speed(timings: Sequence[Timing], folder: Path) -> None:
    """Writes `speed.md` and `speed.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.md").write_text(markdown_table(speed_sheet(timings)) + "\n", encoding="utf-8")
    with (folder / "speed.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Timing._fields)
        writer.writerows(timings)


def _seconds(timing: Timing) -> str:
    if timing.seconds is None:
        return "not reached"
    return ("" if timing.measured else "about ") + number(timing.seconds, 2)


def _times(one: Timing, other: Timing) -> str:
    if one.seconds is None or other.seconds is None:
        return "–"
    return f"{number(one.seconds / other.seconds, 1)}"
