"""What `fishersft judge` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from fishersft.config import JudgeConfig
from fishersft.reporting.summary import Agreement, WinRate
from fishersft.reporting.text import interval, number, one_line
from fishersft.steps.judge_findings import unfit
from fishersft.steps.outcome import Outcome


@dataclass(frozen=True)
class Judged:
    """A judge's results: `calibration` is None where it was not asked for, `agreement` for the first judge."""

    name: str
    config: JudgeConfig
    rate: WinRate
    calibration: WinRate | None
    agreement: Agreement | None
    outcomes: list[Outcome]


def judgements_table(results: Sequence[Judged]) -> Table:
    """A column a judge, a row a figure; figures that no judge has are left out."""
    table = Table("")
    for result in results:
        table.add_column(Text(one_line(result.name)))
    columns = [_figures(result) for result in results]
    for name in columns[0]:
        cells = [column[name] for column in columns]
        if any(cells):
            table.add_row(name, *(Text(cell) for cell in cells))
    return table


def remarks(results: Sequence[Judged]) -> list[Text]:
    """What each judge's figures mean, in a sentence; that it is unfit where it is."""
    said = []
    for result in results:
        verdict = result.rate.verdict
        said.append(Text(f"{result.name}: {verdict}"))
        if result.calibration is not None and result.calibration.rate.low <= 0.5:
            said.append(Text(unfit(result.name, result.calibration), style="yellow"))
    return said


def _figures(result: Judged) -> dict[str, str]:
    rate, facts = result.rate, [outcome.facts for outcome in result.outcomes]
    cost = result.config.cost(*(sum(fact[name] for fact in facts) for name in ("input_tokens", "output_tokens")))
    return {
        "pairs": f"{rate.prompts:,}",
        "win rate of the first file [95%]": interval(rate.rate, 3),
        "wins, losses, ties": f"{rate.wins:,}, {rate.losses:,}, {rate.ties:,}",
        "the text shown first was chosen [95%]": interval(rate.first_chosen, 3),
        "unreadable (ties)": f"{rate.unreadable:,}",
        "identical (not judged)": f"{rate.identical:,}",
        "real over shuffled text [95%]": interval(result.calibration.rate, 3) if result.calibration else "",
        "kappa with the first judge": number(result.agreement.kappa) if result.agreement else "",
        "questions asked now": f"{sum(0 if outcome.hit else outcome.facts['asked'] for outcome in result.outcomes):,}",
        "tokens, input and output": (
            f"{sum(fact['input_tokens'] for fact in facts):,}, {sum(fact['output_tokens'] for fact in facts):,}"
        ),
        "cost": "" if cost is None else number(cost, 4),
    }
