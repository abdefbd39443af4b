"""What the report leaves in its folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from fishersft.reporting.page import render_html
from fishersft.reporting.summary import RunReport
from fishersft.reporting.write import write_report

FIGURES = {"gain-by-sentences", "gain-by-tokens", "lengths", "perplexities", "win-rates", "training-losses"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_the_page_its_data_and_its_figures(report: RunReport, tmp_path: Path) -> None:
    page = write_report(report, tmp_path / "new" / "report")
    assert page == tmp_path / "new" / "report" / "index.html"
    expected = {f"figures/{name}.{kind}" for name in FIGURES for kind in ("svg", "csv")}
    assert set(files(page.parent)) == {"index.html", "report.json", *expected}
    assert page.read_text(encoding="utf-8") == render_html(report)


def test_the_report_is_made_again_from_its_json(report: RunReport, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    assert RunReport.model_validate_json((tmp_path / "report.json").read_bytes()) == report


def test_the_same_report_leaves_the_same_bytes(make_report: Callable[..., RunReport], tmp_path: Path) -> None:
    write_report(make_report(), tmp_path / "one")
    write_report(make_report(), tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_the_data_behind_a_curve_ends_where_the_selection_ends(report: RunReport, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    with open(tmp_path / "figures" / "gain-by-tokens.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "uniform"]
    uniform = report.selections[1]
    assert len(rows) == uniform.sentences
    assert int(rows[-1]["tokens"]) == uniform.tokens[-1]
    assert float(rows[-1]["information_gain_nats"]) == uniform.information_gain[-1]
