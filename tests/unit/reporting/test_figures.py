"""The figures: all there, legible, and the same bytes each time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from fishersft.reporting import figures
from fishersft.reporting.figure_data import LENGTH_BINS, describe_losses, length_rows, loss_rows
from fishersft.reporting.summary import Interval, RunReport

NAMES = ["gain-by-sentences", "gain-by-tokens", "lengths", "perplexities", "win-rates", "training-losses"]


def test_a_full_report_has_all_figures_in_reading_order(report: RunReport) -> None:
    assert [plot.name for plot in figures.plots(report)] == NAMES


def test_a_report_of_a_selection_alone_has_the_figures_of_a_selection(
    make_report: Callable[..., RunReport],
) -> None:
    alone = make_report(trainings=[], likelihoods=[], comparisons=[], win_rates=[], completions=[])
    assert [plot.name for plot in figures.plots(alone)] == NAMES[:3]
    for plot in figures.plots(alone):
        assert figures.svg(plot.draw(alone)).rstrip().endswith(b"</svg>")


def unseen_ticks(figure: Figure) -> list[Text]:
    """Labels of ticks beyond the ends of an axis, which matplotlib keeps but does not draw."""
    unseen = []
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        unseen += [label for label, place in labels if not low <= place <= high]
    return unseen


@pytest.mark.parametrize("name", NAMES)
def test_no_two_labels_of_a_figure_overlap_or_leave_it(report: RunReport, name: str) -> None:
    plot = next(plot for plot in figures.plots(report) if plot.name == name)
    figure = plot.draw(report)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text not in unseen_ticks(figure)]
    assert len(boxes) > 5
    for text, box in boxes:
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= 0, text
    for (one, first), (two, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} overlaps {two!r}"


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_gives_the_same_bytes_twice_whatever_the_users_style(report: RunReport, name: str) -> None:
    plot = next(plot for plot in figures.plots(report) if plot.name == name)
    first = figures.svg(plot.draw(report))
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "another", "axes.grid": False}):
        assert figures.svg(plot.draw(report)) == first
        assert matplotlib.rcParams["font.size"] == 30
    assert b"<dc:date>" not in first


def test_selected_methods_have_colours_of_their_own_and_the_base_is_grey(report: RunReport) -> None:
    colors = figures.method_colors(report)
    assert colors["base"] == figures.NEUTRAL
    assert len({colors["base"], colors["d-optimal"], colors["uniform"]}) == 3


def test_the_shares_of_each_group_add_to_one_in_shared_bins_of_whole_tokens(report: RunReport) -> None:
    rows = length_rows(report)
    groups = {row["group"] for row in rows}
    assert groups == {"pool", "d-optimal", "uniform"}
    bins = {group: [(r["from_tokens"], r["to_tokens"]) for r in rows if r["group"] == group] for group in groups}
    assert bins["pool"] == bins["d-optimal"] == bins["uniform"]
    assert len(bins["pool"]) <= LENGTH_BINS
    for group in groups:
        assert math.isclose(sum(row["share"] for row in rows if row["group"] == group), 1.0)


@pytest.mark.parametrize("lengths", [[7], [3, 4], list(range(2, 1025))])
def test_every_length_falls_in_a_bin(make_report: Callable[..., RunReport], lengths: list[int]) -> None:
    rows = length_rows(make_report(pool_lengths=lengths, selections=[]))
    assert sum(row["sentences"] for row in rows) == len(lengths)


def test_a_run_that_diverged_does_not_stop_the_figures(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    lost = Interval(value=math.inf, low=1e9, high=math.inf)
    ran_away = report.likelihoods[1].model_copy(update={"perplexity": lost})
    diverged = report.trainings[0].model_copy(update={"losses": [(1, 5.0), (2, math.inf), (3, math.nan)]})
    report = make_report(likelihoods=[report.likelihoods[0], ran_away], trainings=[diverged])
    assert b"</svg>" in figures.svg(figures.perplexities(report))
    assert b"</svg>" in figures.svg(figures.training_losses(report))


def test_alternative_text_gives_the_figures_numbers(report: RunReport) -> None:
    alts = {plot.name: plot.alt(report) for plot in figures.plots(report)}
    assert "d-optimal: 121.5 [112.9, 130.6]" in alts["perplexities"]
    assert "the first shown is chosen: 0.70 [0.58, 0.80]" in alts["win-rates"]
    assert "uniform" in alts["gain-by-tokens"]


def test_the_held_out_loss_of_early_stopping_is_drawn_and_told(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    stopped = report.trainings[0].model_copy(
        update={"held_out_losses": [(48, 4.9), (96, 5.2)], "steps_kept": 48},
    )
    report = make_report(trainings=[stopped, report.trainings[1]])
    (axes,) = figures.training_losses(report).axes
    curves = {str(line.get_label()): line.get_xydata().tolist() for line in axes.get_lines()}
    assert curves["d-optimal: held out, step 48 kept"] == [[48, 4.9], [96, 5.2]]
    assert not any(label.startswith("uniform: held out") for label in curves)
    assert "held out at best 4.90 after step 48" in describe_losses(report)
    assert {row["sentences"] for row in loss_rows(report)} == {"training", "held out"}
