"""How the seconds of a selection grow with sentences, picks, dim and tokens: one varied at a time, and a power law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.selection.measure import in_fresh_process
from benchmarks.selection.ours import select_from
from benchmarks.selection.pools import synthetic_blocks

FACTORS = (1, 2, 4, 8)
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
_MEASURED, _FITTED = "#0072B2", "#D55E00"  # Okabe and Ito (2008): told apart with any colour vision


@dataclass(frozen=True)
class Size:
    """One selection: what is chosen from, and how many. `tokens` is the mean of a sentence."""

    sentences: int
    picks: int
    dim: int
    tokens: int


@dataclass(frozen=True)
class Curve:
    """Seconds against one of the four variables, the others as in `base`."""

    variable: str
    base: Size
    sizes: list[int]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """b of seconds = a * size^b."""
        return fitted_power(self.sizes, self.seconds)[1]


def measured_curves(base: Size) -> list[Curve]:
    """The four curves from synthetic blocks, each over a factor of 8; a process for each point."""
    curves = []
    for variable in ("sentences", "picks", "dim", "tokens"):
        sizes = [getattr(base, variable) * factor for factor in FACTORS]
        seconds = [_seconds(replace(base, **{variable: size})) for size in sizes]
        curves.append(Curve(variable, base, sizes, seconds))
    return curves


def _seconds(size: Size) -> float:
    pool = partial(synthetic_blocks, size.sentences, size.dim, float(size.tokens))
    return in_fresh_process(select_from, pool, size.picks).seconds


def fitted_power(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """a and b of the least-squares line log(seconds) = log(a) + b log(size).

    Example:
        >>> a, b = fitted_power([1, 2, 4], [3, 12, 48])
        >>> round(a, 6), round(b, 6)
        (3.0, 2.0)
    """
    slope, intercept = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(np.exp(intercept)), float(slope)


def draw(curves: Sequence[Curve], path: Path) -> None:
    """The curves with their fits, side by side on logarithmic axes, as a PNG."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(9.6, 7.0), layout="constrained")
        figure.suptitle("How the time of a selection grows", x=0.02, ha="left", fontsize=11.5, fontweight="bold")
        for axes, curve in zip(figure.subplots(2, 2).flat, curves, strict=True):
            scale, exponent = fitted_power(curve.sizes, curve.seconds)
            fit = [scale * size**exponent for size in curve.sizes]
            axes.loglog(curve.sizes, curve.seconds, "o", color=_MEASURED, label="measured")
            axes.loglog(curve.sizes, fit, "--", color=_FITTED, label=f"{curve.variable} to the power {exponent:.2f}")
            axes.set_xticks(curve.sizes, [f"{size:,}" for size in curve.sizes])
            axes.minorticks_off()
            axes.set_xlabel("mean tokens of a sentence" if curve.variable == "tokens" else curve.variable)
            axes.set_ylabel("seconds")
            low, high = min(curve.seconds + fit), max(curve.seconds + fit)
            axes.set_ylim(low / 1.5, max(4 * high, 10 * low))  # room for the legend; at least a decade
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.legend(loc="upper left")
        figure.savefig(path, dpi=150, format="png")
