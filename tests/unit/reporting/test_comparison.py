"""A comparison's page, tables and verdict, where something was shown and where not, and with hostile names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fishersft.errors import InputError
from fishersft.reporting.comparison import Arm, Comparison, Training, Versus, read_comparison
from fishersft.reporting.comparison_page import comparison_markdown, write_comparison
from fishersft.reporting.comparison_sheets import arms, duels, groups, judges, summary, trainings, verdicts, versus
from fishersft.reporting.summary import Interval


def arm(method: str, **changes: Any) -> Arm:
    values = {
        "method": method,
        "budget": 2000,
        "seeds": 3,
        "sentences": 70.0,
        "lengths": (5.0, 21.0, 60.5),
        "tokens": 2001.0,
        "steps": 16.0,
        "mean": 4.8,
        "perplexity": Interval(value=121.5, low=110.2, high=133.9),
        "worst_tenth": 6.4,
        "worst": 7.9,
        "seconds_choosing": 1.5,
        "seconds_training": 60.0,
        "seconds_judging": 9.0,
        "money": None,
    }
    return Arm.model_validate({**values, **changes})


def against(method: str, value: float, p: float, **changes: Any) -> Versus:
    values: dict[str, Any] = {
        "method": method,
        "other": "uniform",
        "budget": 2000,
        "basis": "tokens and steps",
        "sentences": 50.0,
        "other_sentences": 72.0,
        "tokens": 1998.0,
        "other_tokens": 2003.0,
        "steps": 16.0,
        "other_steps": 16.0,
        "mean": Interval(value=value, low=value - 0.01, high=value + 0.01),
        "excluded_gain": max(0.0, 0.008 - value),
        "p": p,
        "p_corrected": p,
        "worst_tenth": Interval(value=-0.05, low=-0.09, high=-0.01),
        "worst_tenth_p": 0.03,
        "worst_tenth_p_corrected": 0.06,
        "worst": Interval(value=-0.1, low=-0.3, high=0.1),
        "win_rate": Interval(value=0.55, low=0.4, high=0.7),
        "win_p": 0.4,
        "win_p_corrected": 0.8,
    }
    return Versus.model_validate({**values, **changes})


def training(method: str, **changes: Any) -> Training:
    values = {
        "method": method,
        "budget": 2000,
        "seed": 1,
        "control": None,
        "sentences": 50,
        "tokens": 1998,
        "steps": 16,
        "mean": 4.8,
        "worst_tenth": 6.4,
        "worst": 7.9,
        "win_rate_at_equal_tokens": 0.5,
        "win_rate_at_equal_sentences": 0.625,
        "seconds_choosing": 0.5,
        "seconds_training": 20.0,
    }
    return Training.model_validate({**values, **changes})


def comparison(*items: Versus, **changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "name": "verses",
        "unit": "tokens",
        "seeds": 3,
        "held_out": 200,
        "counted_by_choosing_model": False,
        "base": arm("base model", steps=0.0, lengths=None),
        "arms": [arm("uniform"), *(arm(item.method) for item in items)],
        "versus": list(items),
        "duels": [],
        "trainings": [training(item.method) for item in items] + [training("longest", control="sentences")],
        "judges": [
            {
                "name": "a judge",
                "fit": False,
                "calibration": {"value": 0.5, "low": 0.3, "high": 0.7},
                "pairs": 96,
                "unreadable": 2,
                "first_chosen": 0.9,
                "kappa": None,
                "tokens": 5000,
                "cost": None,
            }
        ],
        "warnings": [],
        "config": {"name": "verses"},
        "versions": {"python": "3"},
    }
    return Comparison.model_validate({**values, **changes})


def test_the_headline_says_what_was_shown_and_of_how_many_it_was_not() -> None:
    found = comparison(against("D-optimal", 0.02, 0.6), against("longest", 0.08, 0.001), against("V", -0.03, 0.01))
    assert found.headline == (
        "Compared with a uniform choice at equal tokens and steps: longest (2,000 tokens) is 0.080 nats a token worse "
        "(p 0.001); V (2,000 tokens) is 0.030 nats a token better (p 0.01); for the other no difference was shown."
    )


def test_the_headline_says_plainly_that_nothing_was_shown() -> None:
    found = comparison(against("D-optimal", -0.02, 0.06), against("longest", 0.01, 1.0))
    assert found.headline == (
        "No difference in held-out likelihood was shown between a uniform choice and D-optimal or longest at equal "
        "tokens and steps; gains above 0.028 nats a token are excluded."
    )


def test_the_headline_says_what_is_equal_and_that_one_training_says_nothing_of_luck() -> None:
    found = comparison(against("longest", 0.08, 0.0001), seeds=1, counted_by_choosing_model=True)
    assert found.headline == (
        "Compared with a uniform choice at equal tokens as the choosing model counts them and equal steps: longest "
        "(2,000 tokens) is 0.080 nats a token worse (p < 0.001). One training each, so the intervals do not cover the "
        "luck of training."
    )


def test_what_is_equal_in_sentences_alone_is_not_in_the_headline() -> None:
    found = comparison(against("longest", 0.0, 1.0), against("longest", -0.2, 0.0001, basis="sentences"))
    assert found.headline.startswith("No difference")
    assert [row.cells[-1] for row in verdicts(found, "sentences").rows] == ["better"]


def test_one_table_shows_the_outcome_with_only_the_columns_that_say_something() -> None:
    plain = summary(comparison(against("longest", 0.08, 0.001)))
    assert plain.columns == (
        "Choice",
        "Examples",
        "Tokens",
        "Steps",
        "Perplexity [95%]",
        "Difference from uniform, nats/token [95%]",
    )
    assert [row.heading for row in plain.rows] == ["base model", "uniform", "longest"]
    assert plain.rows[0].cells == ("–", "–", "–", "121.5 [110.2, 133.9]", "–")
    assert plain.rows[2].cells[-1] == "0.080 [0.070, 0.090]"
    about = {"side": "about", "tokens": 4000.4}
    more = {"side": "more than", "tokens": 16000.0}
    filtered = against("filter", -0.2, 0.001, filter_share=1.0)
    full = comparison(filtered, against("mine", -0.15, 0.001, filter_share=0.75)).model_copy(
        update={
            "arms": [
                arm("uniform", on_target=0.2, worth={"side": "about", "tokens": 2001.0}),
                arm("filter", on_target=1.0, worth=more),
                arm("mine", on_target=0.874, worth=about, budget=2000),
                arm("mine", budget=4000),
            ]
        }
    )
    found = summary(full)
    assert found.columns[1:4] == ("Budget, tokens", "Examples", "On target")
    assert found.columns[-2:] == ("Share of the perfect filter's gain", "Worth in uniform tokens")
    assert [row.cells[2] for row in found.rows] == ["–", "20%", "100%", "87%", "–"]
    assert [row.cells[-2:] for row in found.rows[1:]] == [
        ("–", "about 2,001"),
        ("100%", "more than 16,000"),
        ("75%", "about 4,000"),
        ("–", "–"),
    ]


def test_tables_show_both_sizes_and_corrected_p_values() -> None:
    found = comparison(against("longest", 0.08, 0.0001, p_corrected=0.0004))
    (row,) = versus(found, "tokens and steps").rows
    assert row.cells[:6] == ("2,000", "50, 72", "1,998, 2,003", "16, 16", "0.080 [0.070, 0.090]", "< 0.001")
    base, uniform, _ = arms(found).rows
    assert base.cells[:3] == ("–", "–", "–") and uniform.cells[6:9] == ("4.800", "6.400", "7.900")
    assert base.cells[3] == "–" and uniform.cells[3] == "5, 21, 60"


def test_a_head_to_head_is_laid_out_by_budgets_and_choices() -> None:
    told = [
        against("D-optimal", value, p, other=other, budget=budget)
        for budget, other, value, p in (
            (100, "uniform", 0.02, 0.5),
            (100, "density", 0.08, 0.001),
            (200, "uniform", -0.09, 0.001),
            (200, "density", 0.01, 0.9),
        )
    ]
    wins, likelihoods = duels(comparison(against("D-optimal", 0.02, 0.5), duels=told))
    assert wins.columns == likelihoods.columns == ("Budget, tokens", "uniform", "density")
    assert [row.heading for row in wins.rows] == ["100", "200"]
    assert wins.rows[0].cells == ("0.55 [0.40, 0.70]",) * 2
    assert likelihoods.rows[0].cells == ("0.020 [0.010, 0.030]", "0.080 [0.070, 0.090], worse")
    assert likelihoods.rows[1].cells == ("-0.090 [-0.100, -0.080], better", "0.010 [0.000, 0.020]")
    assert "how often the judge preferred it to" in comparison_markdown(comparison(told[0], duels=told))
    assert duels(comparison(told[0])) == []


TASKS = [
    {
        "method": "longest",
        "budget": 2000,
        "group": group,
        "sentences": 9,
        "tokens": 99,
        "base": base,
        "uniform": 2.0,
        "mean": 2.1,
        "difference": {"value": 0.1, "low": -0.05, "high": 0.25},
    }
    for group, base in (("sums | *", 4.0), ("chess", 3.0))
]


def test_clusters_are_told_and_a_worst_tenth_of_one_is_left_out(tmp_path: Path) -> None:
    item = against("longest", 0.08, 0.001, worst_tenth=None, worst_tenth_p=None, worst_tenth_p_corrected=None)
    found = comparison(item, cluster_column="play", clusters=7)
    page = write_comparison(found, tmp_path)
    assert "held-out sentences in 7 clusters by play, over" in page.read_text()
    (row,) = versus(found, "tokens and steps").rows
    assert row.cells[6:8] == ("–", "–")
    (written,) = csv.DictReader((tmp_path / "comparison.csv").open())
    assert written["worst_tenth_low"] == ""


def test_orders_are_told_where_there_are_several(tmp_path: Path) -> None:
    item = against("longest", 0.08, 0.001, deviation_over_orders=0.0123)
    told = [training("longest", order=order) for order in range(2)]
    found = comparison(item, orders=2, seeds=1, trainings=told)
    assert found.headline.endswith("One seed each, so the intervals do not cover the luck of training.")
    sheet = versus(found, "tokens and steps")
    assert sheet.rows[0].cells[sheet.columns.index("SD over orders") - 1] == "0.012"
    of_trainings = trainings(found)
    assert [row.cells[of_trainings.columns.index("Order") - 1] for row in of_trainings.rows] == ["1", "2"]
    assert all(len(row.cells) == len(of_trainings.columns) - 1 for row in of_trainings.rows)
    assert "each choice trained in\n2 orders" in write_comparison(found, tmp_path).read_text()
    plain = comparison(against("longest", 0.08, 0.001))
    assert "SD over orders" not in versus(plain, "tokens and steps").columns and "Order" not in trainings(plain).columns


def test_a_macro_mean_is_called_one_and_every_group_is_told(tmp_path: Path) -> None:
    found = comparison(against("longest", 0.08, 0.001), macro_column="task", groups=TASKS)
    assert found.headline.startswith("Compared with a uniform choice at equal tokens and steps (macro mean over task):")
    assert found.worst_group == "sums | *"
    sheet = groups(found)
    assert [row.cells for row in sheet.rows] == [
        ("sums | *", "0.100 [-0.050, 0.250]", "2.100", "2.000", "4.000", "9", "99"),
        ("chess", "0.100 [-0.050, 0.250]", "2.100", "2.000", "3.000", "9", "99"),
    ]
    twice = [*TASKS, *({**of, "budget": 4000} for of in TASKS)]
    budgets = groups(comparison(against("longest", 0.08, 0.001), macro_column="task", groups=twice))
    assert [row.cells[0] for row in budgets.rows] == ["2,000", "2,000", "4,000", "4,000"]
    assert all(len(row.cells) == len(budgets.columns) - 1 == len(sheet.columns) for row in budgets.rows)
    assert "Perplexity (macro mean over task) [95%]" in summary(found).columns
    page = write_comparison(found, tmp_path)
    assert "By task, nats/token at equal tokens and steps" in page.read_text()
    assert read_comparison(page.with_name("comparison.json")) == found
    plain = comparison(against("longest", 0.08, 0.001))
    assert "macro" not in comparison_markdown(plain) and "By " not in comparison_markdown(plain)


def test_a_judge_that_is_unfit_is_called_so() -> None:
    (row,) = judges(comparison(against("longest", 0.0, 1.0))).rows
    assert row.about == ("a judge",)
    assert row.cells == ("0.50 [0.30, 0.70]", "unfit", "96", "2", "0.90", "–", "5,000", "–")


def test_money_has_a_column_only_where_a_price_is_known() -> None:
    assert "Money" not in arms(comparison(against("longest", 0.0, 1.0))).columns
    priced = comparison(against("longest", 0.0, 1.0), arms=[arm("uniform", money=1.25)])
    assert arms(priced).rows[1].cells[-1] == "1.25"


def test_identical_texts_leave_the_win_rate_empty() -> None:
    (row,) = versus(
        comparison(against("longest", 0.0, 1.0, win_rate=None, win_p=None, win_p_corrected=None)), "tokens and steps"
    ).rows
    assert row.cells[-3:-1] == ("–", "–")


def test_the_files_are_the_same_each_time_and_the_data_reads_back(tmp_path: Path) -> None:
    found = comparison(against("longest", 0.08, 0.001), against("longest", 0.01, 1.0, basis="sentences"))
    page = write_comparison(found, tmp_path / "one")
    write_comparison(found, tmp_path / "two")
    for file in page.parent.iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert read_comparison(page.with_name("comparison.json")) == found
    of_trainings = list(csv.DictReader((tmp_path / "one" / "trainings.csv").open()))
    assert [(row["method"], row["seed"], row["control"]) for row in of_trainings][-1] == ("longest", "1", "sentences")
    rows = list(csv.DictReader((tmp_path / "one" / "comparison.csv").open()))
    assert [(row["basis"], row["mean"], row["mean_low"], row["verdict"]) for row in rows] == [
        ("tokens and steps", "0.08", "0.07", "worse"),
        ("sentences", "0.01", "0.0", "no difference was shown"),
    ]


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|*x*\x1b[31m"
    page = write_comparison(comparison(against(evil, 0.08, 0.001), warnings=[evil], config={"name": evil}), tmp_path)
    html = page.read_text()
    assert "<script" not in html and "&lt;script&gt;" in html and "\x1b" not in html
    text = comparison_markdown(comparison(against(evil, 0.08, 0.001)))
    assert "<script" not in text and "\x1b" not in text


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_comparison(tmp_path / "comparison.json")
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(InputError, match="not a comparison of this version"):
        read_comparison(tmp_path / "comparison.json")
