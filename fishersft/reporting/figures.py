"""The report's figures, drawn without pyplot or a window: the same bytes for the same report."""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fishersft.reporting import figure_data as data
from fishersft.reporting.summary import Interval, RunReport
from fishersft.reporting.text import count, interval, number, one_line

# The palette of Okabe and Ito (2008), told apart with any colour vision; grey is for what was not selected
# (the pool, the base model). Dashes carry the same difference for print in black and white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
NEUTRAL = "#767676"

# Sized so that the type is still read at the width of a phone.
_WIDTH, _HEIGHT = 4.8, 3.5  # inches
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same shapes everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "text.parse_math": False,  # a "$" in a method's name is a dollar
    "svg.fonttype": "path",  # measured and drawn with one font: labels cannot come to overlap elsewhere
    "svg.hashsalt": "fishersft",
}
_STYLE_LOCK = threading.RLock()


@contextmanager
def figure_style() -> Iterator[None]:
    """Our style alone, whatever the user's matplotlibrc; locked, because matplotlib keeps it per process."""
    with _STYLE_LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def method_colors(report: RunReport) -> dict[str, str]:
    """A colour for every method of the report: the selections' in the palette's order, all others' grey."""
    named = [facts.method for facts in report.likelihoods]
    named += [name for item in report.win_rates for name in (item.method, item.other)]
    colors = dict.fromkeys(named, NEUTRAL)
    return colors | {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(_selected(report))}


@figure_style()
def gain_by_sentences(report: RunReport) -> Figure:
    """Cumulative information gain against the number of sentences chosen."""
    figure, axes = _canvas("Information gained, sentence by sentence", "sentences chosen")
    for facts in report.selections:
        picks = np.arange(len(facts.information_gain) + 1)
        label = f"{one_line(facts.method)}: {count(len(facts.lengths))} sentences"
        axes.plot(picks, [0.0, *facts.information_gain], label=label, **_line(report, facts.method))
    return _finish_curves(figure, axes, "information gain (nats)", from_zero=True)


@figure_style()
def gain_by_tokens(report: RunReport) -> Figure:
    """Cumulative information gain against the number of loss tokens chosen."""
    figure, axes = _canvas("Information gained, token by token", "loss tokens chosen")
    for facts in report.selections:
        last = facts.information_gain[-1] if facts.information_gain else 0.0
        label = f"{one_line(facts.method)}: {number(last, 1)} nats"
        axes.plot([0, *facts.tokens], [0.0, *facts.information_gain], label=label, **_line(report, facts.method))
    return _finish_curves(figure, axes, "information gain (nats)", from_zero=True)


@figure_style()
def lengths(report: RunReport) -> Figure:
    """How long the chosen sentences are, against the pool: shares in the same bins."""
    figure, axes = _canvas("Lengths of what was chosen, against the pool", "length of a sentence (loss tokens)")
    rows = data.length_rows(report)
    edges = data.length_edges(report)
    for group in dict.fromkeys(row["group"] for row in rows):
        shares = [100 * row["share"] for row in rows if row["group"] == group]
        if group == "pool":
            axes.stairs(shares, edges, fill=True, color="#cfcfcf", label="pool")
        else:
            line = _line(report, group)
            axes.stairs(shares, edges, label=one_line(group), baseline=None, **line)
    width = int(edges[1] - edges[0])
    return _finish_curves(figure, axes, f"share of sentences (%)\nin each {width} token{'s' * (width > 1)}")


@figure_style()
def perplexities(report: RunReport) -> Figure:
    """Held-out perplexity of every model with its 95% interval."""
    sentences = max(facts.sentences for facts in report.likelihoods)
    figure, axes = _canvas(
        f"Perplexity on {count(sentences)} held-out sentences",
        "perplexity, with 95% interval (lower is better)",
    )
    colors = method_colors(report)
    dots = [
        (
            f"{wrapped(facts.method)}\n{interval(facts.perplexity, 1)}",
            facts.perplexity,
            colors[facts.method],
            "o",
        )
        for facts in report.likelihoods
    ]
    return _finish_dots(figure, axes, dots)


@figure_style()
def win_rates(report: RunReport) -> Figure:
    """Win rates before the judge and how often it took the completion shown first, with 95% intervals."""
    figure, axes = _canvas(
        "What the judge preferred, and its position bias",
        "share, with 95% interval\n(line at 0.5: no preference)",
    )
    colors = method_colors(report)
    dots = []
    for item in report.win_rates:
        pair = wrapped(f"{item.method} wins against {item.other}")
        dots.append((f"{pair}\n{interval(item.rate)}", item.rate, colors[item.method], "o"))
        bias = wrapped("first shown is chosen")
        dots.append((f"{bias}\n{interval(item.first_chosen)}", item.first_chosen, NEUTRAL, "D"))
    axes.axvline(0.5, color="black", linewidth=1)
    axes.set_xlim(-0.03, 1.03)
    return _finish_dots(figure, axes, dots)


@figure_style()
def training_losses(report: RunReport) -> Figure:
    """Training loss against optimiser steps of every fine-tuning run, and held-out loss where it was measured."""
    figure, axes = _canvas("Training loss", "optimiser steps")
    for facts in report.trainings:
        steps, losses = [step for step, _ in facts.losses], [loss for _, loss in facts.losses]
        marker = "o" if len(losses) <= 25 else ""
        label = f"{one_line(facts.method)}: {count(facts.steps)} steps"
        axes.plot(steps, losses, marker=marker, markersize=3, label=label, **_line(report, facts.method))
        if facts.held_out_losses:
            ends, held_out = zip(*facts.held_out_losses, strict=True)
            label = f"{one_line(facts.method)}: held out, step {count(facts.steps_kept)} kept"
            axes.plot(ends, held_out, label=label, marker="D", **{**_line(report, facts.method), "linestyle": ""})
    return _finish_curves(figure, axes, "loss (nats a token)")


@dataclass(frozen=True)
class Plot:
    """A figure of the report: how it is drawn, the rows it is drawn from, what it shows and what it says."""

    name: str
    draw: Callable[[RunReport], Figure]
    rows: Callable[[RunReport], list[data.Row]]
    title: str
    describe: Callable[[RunReport], str]
    reading: str

    def alt(self, report: RunReport) -> str:
        """The figure in words, for those who do not see it."""
        return f"{self.title}. {self.describe(report)}."


_PLOTS = (
    Plot(
        "gain-by-sentences",
        gain_by_sentences,
        data.gain_rows,
        "Information gain by sentences chosen",
        data.describe_gain,
        "The higher curve holds more information in as many sentences; long ones have the advantage.",
    ),
    Plot(
        "gain-by-tokens",
        gain_by_tokens,
        data.gain_rows,
        "Information gain by loss tokens chosen",
        data.describe_gain,
        "The same gain by what training costs: the fair view, as sentences differ in length.",
    ),
    Plot(
        "lengths",
        lengths,
        data.length_rows,
        "Lengths of the chosen sentences and of the pool",
        data.describe_lengths,
        "A choice that follows the grey shape is as long as chance would make it.",
    ),
    Plot(
        "perplexities",
        perplexities,
        data.perplexity_rows,
        "Held-out perplexity of every model",
        data.describe_perplexity,
        "Bars that overlap do not settle a comparison: the ratios above, sentence by sentence, do.",
    ),
    Plot(
        "win-rates",
        win_rates,
        data.win_rate_rows,
        "Win rates before the judge and its position bias",
        data.describe_win_rates,
        "A bar that crosses the line shows no preference; a diamond off it, a judge with a position bias.",
    ),
    Plot(
        "training-losses",
        training_losses,
        data.loss_rows,
        "Training loss by optimiser step",
        data.describe_losses,
        "Each run on its own sentences: a higher curve means harder text, not a worse model. Diamonds are the held-out "
        "loss that early stopping looked at.",
    ),
)


def plots(report: RunReport) -> list[Plot]:
    """The figures for which the report has data, in the order in which they are read."""
    return [plot for plot in _PLOTS if plot.rows(report)]


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file: letters as shapes, no date, no names, the same bytes each time."""
    buffer = io.BytesIO()
    with figure_style():
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _selected(report: RunReport) -> list[str]:
    named = [facts.method for facts in report.selections] + [facts.method for facts in report.trainings]
    return list(dict.fromkeys(named))


def _line(report: RunReport, method: str) -> dict[str, Any]:
    dashes = _DASHES[_selected(report).index(method) % len(_DASHES)]
    return {"color": method_colors(report)[method], "linestyle": dashes, "linewidth": 2}


def wrapped(name: str) -> str:
    """A name as a label of at most three lines."""
    return textwrap.fill(one_line(name), width=22, max_lines=3, placeholder=" …")


def _canvas(title: str, x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11.5, fontweight="bold")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    return figure, axes


def _finish_curves(figure: Figure, axes: Axes, y_label: str, from_zero: bool = False) -> Figure:
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if from_zero:
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    labels = axes.get_legend_handles_labels()[1]
    columns = len(labels) if sum(map(len, labels)) <= 32 else 1
    figure.legend(loc="outside lower center", ncols=columns, handlelength=2.5)
    return figure


def _finish_dots(figure: Figure, axes: Axes, dots: Sequence[tuple[str, Interval, str, str]]) -> Figure:
    """A row for every (label, estimate, colour, marker), the first on top, its numbers in the label."""
    for row, (_, estimate, color, marker) in enumerate(dots):
        axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([estimate.value], [row], color=color, marker=marker, markersize=8)
    axes.set_yticks(range(len(dots)), [label for label, *_ in dots])
    axes.set_ylim(len(dots) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter("{x:,g}")
    # Two lines of type and a gap a row; five inches hold the most common case, one pair and its bias.
    figure.set_figheight(max(_HEIGHT, 1.1 + 0.62 * len(dots)))
    return figure
