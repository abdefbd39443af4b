"""The same numbers for the terminal and for Prefect's UI."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.markdown import Markdown

from fishersft.reporting.page import render_html
from fishersft.reporting.sheets import (
    budget_basis,
    comparisons,
    corpus,
    costs,
    harness,
    key_numbers,
    store_use,
    win_rates,
)
from fishersft.reporting.summary import Growth, RunReport, StoreUse, TaskFigure, TaskScore, ThisRun
from fishersft.reporting.tables import (
    chosen_rows,
    curve,
    losses_markdown,
    sheet_rows,
    summary_markdown,
    summary_table,
)
from fishersft.reporting.text import markdown, number, visible


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_key_numbers_join_training_and_evaluation_by_method(report: RunReport) -> None:
    base, chosen, uniform = key_numbers(report).rows
    tokens = [f"{sum(facts.lengths):,}" for facts in report.selections]
    assert (base.heading, *base.cells[:4]) == ("base", "–", "–", "–", "250.3 [228.8, 274.0]")
    assert base.cells[4:] == ("7.412 [7.202, 7.662]", "8.912 [8.312, 8.912]")
    assert (chosen.heading, *chosen.cells) == (
        "d-optimal",
        "200",
        tokens[0],
        "96",
        "121.5 [112.9, 130.6]",
        "6.437 [6.227, 6.687]",
        "7.937 [7.337, 7.937]",
    )
    assert uniform.cells[1:4] == (tokens[1], "96", "110.2 [102.4, 118.7]")


def test_a_selection_that_was_not_trained_on_still_has_its_row(make_report: Callable[..., RunReport]) -> None:
    rows = key_numbers(make_report(trainings=[], likelihoods=[])).rows
    assert [row.heading for row in rows] == ["d-optimal", "uniform"]
    assert rows[0].cells[0] == "200"
    assert rows[0].cells[2:] == ("–", "–", "–", "–")


def test_a_comparison_tells_of_the_worst_decile_beside_the_perplexity(report: RunReport) -> None:
    sheet = comparisons(report)
    assert [row.cells[:2] for row in sheet.rows] == [
        ("1.103 [1.071, 1.134]", "-0.058 [-0.131, 0.012]"),
        ("0.485 [0.461, 0.510]", "-0.975 [-1.104, -0.861]"),
    ]
    assert sheet.words == ("Verdict", "Compared at")


def test_costs_have_a_rate_where_tokens_are_processed_and_a_total(report: RunReport) -> None:
    sheet = costs(report)
    assert [row.cells[3] for row in sheet.rows] == ["–", "354", "9,759", "172", "430"]
    assert sheet.total is not None
    assert sheet.total.cells == ("29", "", "548.5", "")


def test_identical_pairs_are_shown_only_where_there_are_some(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    plain = win_rates(report)
    assert "Identical" not in plain.columns
    item = report.win_rates[0]
    sheet = win_rates(make_report(win_rates=[item.model_copy(update={"identical": 1234}), item]))
    assert sheet.columns[:3] == ("Pair", "Wins, losses, ties", "Identical")
    assert [row.cells[1] for row in sheet.rows] == ["1,234", "0"]
    assert [len(row.cells) + 1 for row in sheet.rows] == [len(sheet.columns)] * 2
    assert [len(row.cells) + 1 for row in plain.rows] == [len(plain.columns)]
    assert plain.words == sheet.words == ("Verdict", "Compared at")


def test_only_rows_that_are_not_in_the_pool_are_called_left_out(report: RunReport) -> None:
    meaning = {row.heading: row.cells[1] for row in corpus(report).rows}
    assert meaning["Without loss"].startswith("part of the pool")
    left_out = [heading for heading, why in meaning.items() if "left out" in why]
    assert left_out == ["Blank", "Unmatched", "Bad", "Duplicates"]


def test_the_corpus_table_says_what_became_of_held_out_examples_that_overlap_with_the_pool(
    make_report: Callable[..., RunReport],
) -> None:
    report = make_report()
    rows = {row.heading: row.cells for row in corpus(report).rows}
    assert rows["Held out, overlapping"] == (
        "7",
        "13 words in a row, or all of a shorter one, are in the pool too: evaluated on all the same",
    )
    assert rows["Pool, overlapping"][0] == "1,012"
    cleaned = make_report(overlap=report.overlap.model_copy(update={"left_out": True}))
    assert corpus(cleaned).rows[-2].cells[1].endswith("not evaluated on")


def test_the_harness_has_a_row_a_metric_and_a_column_a_model(make_report: Callable[..., RunReport]) -> None:
    assert not harness(make_report()).rows
    figures = {"base": TaskFigure(value=0.25, stderr=0.0125), "uniform": TaskFigure(value=0.5, stderr=None)}
    report = make_report(
        harness=[
            TaskScore(task="arc_easy", metric="acc", figures=figures),
            TaskScore(task="arc_easy", metric="acc_norm", figures={"uniform": figures["uniform"]}),
        ]
    )
    sheet = harness(report)
    assert sheet.columns == ("Task", "Metric", "base", "uniform")
    assert [row.cells for row in sheet.rows] == [("acc", "0.2500 ± 0.0125", "0.5000"), ("acc_norm", "–", "0.5000")]
    assert "0.2500 ± 0.0125" in summary_markdown(report)
    assert 'id="harness"' in render_html(report) and 'id="harness"' not in render_html(make_report())


@pytest.mark.parametrize(
    ("tokens", "sentences", "basis"),
    [
        ((6000, 5990), (200, 452), "equal tokens (6,000 and 5,990 an epoch)"),
        ((12000, 6000), (200, 200), "equal sentences (200 each)"),
        ((6000, 6000), (200, 200), "equal tokens (6,000 and 6,000 an epoch) and equal sentences (200 each)"),
        (
            (12000, 6000),
            (200, 199),
            "unequal budgets: 200 and 199 sentences, 12,000 and 6,000 tokens an epoch",
        ),
    ],
)
def test_the_basis_of_a_comparison_is_what_both_had_in_common(
    make_report: Callable[..., RunReport], tokens: tuple[int, int], sentences: tuple[int, int], basis: str
) -> None:
    report = make_report()
    trainings = [
        facts.model_copy(update={"tokens_per_epoch": tokens[i], "sentences": sentences[i]})
        for i, facts in enumerate(report.trainings)
    ]
    assert budget_basis(make_report(trainings=trainings), "d-optimal", "uniform") == basis


def test_the_terminal_shows_every_models_row(report: RunReport) -> None:
    text = printed(summary_table(report))
    assert "121.5 [112.9, 130.6]" in text
    assert "6.495" in text
    assert "Worst decile" in text
    assert text.count("96") >= 2


def test_the_terminal_takes_no_orders_from_a_name(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    likelihood = report.likelihoods[0].model_copy(update={"method": "[bold]x[/bold]\x1b[31m"})
    text = printed(summary_table(make_report(likelihoods=[likelihood], name="\x1b]0;title\x07")))
    assert "[bold]x[/bold][U+001B][31m" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_markdown_holds_headline_warnings_and_all_tables(report: RunReport) -> None:
    text = summary_markdown(report)
    plain = printed(Markdown(text))
    assert report.warnings[0] in plain
    assert "121.5 [112.9, 130.6]" in plain
    assert "equal tokens" in plain
    assert "0.70 [0.58, 0.80]" in plain
    for heading in (
        "Key numbers",
        "Likelihood, compared",
        "What the judge preferred",
        "The judges",
        "The corpus",
        "What it cost",
    ):
        assert f"## {heading}" in text


def test_hostile_markdown_stays_one_inert_cell(hostile_report: RunReport) -> None:
    text = summary_markdown(hostile_report)
    assert "<" not in text.replace("&#60;", "")
    assert "`" not in text
    assert "https://" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") in (4, 5, 6, 7, 8, 9)
    plain = "".join(printed(Markdown(text)).split())
    assert "<script>document.title='owned'</script></pre></div><imgsrc=xonerror=alert(1)>" in plain


@pytest.mark.parametrize(
    "hostile",
    [
        "a | b",
        "`code`",
        "<b>x</b>",
        "**bold**",
        "[x](y)",
        "https://a.example",
        "www.a.example",
        "&lt;",
        "a\n\n# b",
        "~~x~~",
    ],
)
def test_escaped_markdown_renders_as_the_text_itself(hostile: str) -> None:
    escaped = markdown(hostile)
    assert "\n" not in escaped
    assert "|" not in escaped
    assert "<" not in escaped
    assert "://" not in escaped
    assert printed(Markdown("x " + escaped)).split() == ["x", *hostile.split()]


def test_the_chosen_rows_suit_a_table_artifact(report: RunReport, hostile_report: RunReport) -> None:
    rows = chosen_rows(report.chosen)
    assert len(rows) == 40
    assert rows[0] == {
        "rank": 1,
        "gain (nats)": 231.4,
        "tokens": report.chosen[0].tokens,
        "source": "macbeth.md",
        "row": 17,
        "id": "",
        "text": " ".join(report.chosen[0].text.split()),
    }
    assert "\x00" not in chosen_rows(hostile_report.chosen)[0]["text"]


def test_numbers_that_are_missing_or_not_finite_are_said() -> None:
    assert number(None) == "–"
    assert number(float("inf")) == "not finite"
    assert number(1234.5, 1) == "1,234.5"


def test_visible_text_keeps_what_is_harmless_and_shows_what_is_not() -> None:
    assert visible("Grüße, 世界 \u200d 👩‍👧\tx\r\ny") == "Grüße, 世界 \u200d 👩‍👧\tx\ny"
    assert visible("a\x00\u202eb\ud800\r") == "a[U+0000][U+202E]b\ufffd[U+000D]"


def test_a_proof_is_shown_on_the_page_and_in_the_summary(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    proven = report.selections[0].model_copy(update={"certificate": "Proven to have at least 96.1% of the best."})
    report = report.model_copy(update={"selections": [proven, *report.selections[1:]]})
    assert "Proven to have at least 96.1% of the best." in render_html(report)
    assert "Proven to have at least 96.1% of the best." in summary_markdown(report)


def test_how_it_was_chosen_is_a_table_on_the_page_and_in_the_summary(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    assert "How it was chosen" not in render_html(report) + summary_markdown(report)
    chosen = report.selections[0].model_copy(update={"settings": {"Quotas": "by kind, at most <b>: 3"}})
    report = report.model_copy(update={"selections": [chosen, *report.selections[1:]]})
    assert "by kind, at most &lt;b&gt;: 3" in render_html(report)
    assert "## How it was chosen" in summary_markdown(report) and "Quotas" in summary_markdown(report)


def test_what_a_run_found_and_what_is_new_is_on_its_page_and_in_its_summary(
    make_report: Callable[..., RunReport],
) -> None:
    uses = [
        StoreUse(kind="embeddings", found=39, made=1, seconds_made=2.5, seconds_saved=97.5),
        StoreUse(kind="selection", found=0, made=1, seconds_made=3.0, seconds_saved=0.0),
    ]
    growth = Growth(
        since="2026-11-21T03:00+00:00", sentences_new=101, sentences_kept=9_899, sentences_removed=1,
        shards_new=1, shards_reused=39, shards_dropped=1, tokens_new=7_070, tokens_reused=292_930,
    )  # fmt: skip
    report = make_report(this_run=ThisRun(uses=uses, growth=growth))
    total = store_use(report).total
    assert total is not None and total.cells == ("39", "2", "5.5", "97.5")
    for shown in (render_html(report), summary_markdown(report)):
        assert "Since the last run, of 2026-11-21T03:00" in shown
        assert "9,899" in shown and "292,930" in shown and "97.5" in shown
    assert sheet_rows(store_use(report))[0] == {
        "Kind": "embeddings", "Found": "39", "Made": "1", "Seconds to make": "2.5", "Seconds saved": "97.5"
    }  # fmt: skip
    first = make_report(this_run=ThisRun(uses=uses, growth=None))
    assert "Since the last run" not in render_html(first) + summary_markdown(first)
    assert "What this run did" not in render_html(make_report())


def test_tokens_that_only_the_choosing_model_counts_equal_are_called_so(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    trainings = [
        facts.model_copy(update={"tokens_per_epoch": tokens, "tokens_chosen": chosen})
        for facts, tokens, chosen in zip(report.trainings, (9000, 8000), (6001, 5999), strict=True)
    ]
    assert budget_basis(make_report(trainings=trainings), "d-optimal", "uniform") == (
        "equal tokens to the model that chose (6,001 and 5,999; to the model that was trained 9,000 and 8,000 an epoch)"
    )


def test_steps_behind_the_weights_are_told_from_steps_taken(make_report: Callable[..., RunReport]) -> None:
    report = make_report()
    stopped = report.trainings[0].model_copy(update={"steps_kept": 48})
    rows = key_numbers(make_report(trainings=[stopped, report.trainings[1]])).rows
    assert [row.cells[2] for row in rows] == ["–", "48 of 96", "96"]


def test_losses_are_a_curve_and_a_row_an_epoch() -> None:
    shown = losses_markdown(2, [(1, 5.0), (2, 4.0), (3, 3.0), (4, 1.0)], [(2, 4.25), (4, 4.5)])
    assert shown.startswith("Training loss: `█▆▄▁`\n\n| Epoch | Steps | Training loss | Held-out loss |")
    assert "| 1 | 2 | 4.500 | 4.250 |\n| 2 | 4 | 2.000 | 4.500 |" in shown
    assert "| 1 | 1 | 5.000 | – |" in losses_markdown(1, [(1, 5.0)], [])


def test_a_long_curve_is_shortened_and_a_flat_one_is_flat() -> None:
    assert curve([2.0] * 7) == "▁" * 7
    assert len(curve(list(range(1000)))) == 60 and curve(list(range(1000)))[::59] == "▁█"
