"""The tables of a comparison as text, the same for its page, the terminal, Markdown, CSV and Prefect's UI."""

from __future__ import annotations

from collections.abc import Callable

from fishersft.reporting.comparison import Arm, Basis, Comparison, GroupOutcome, Versus
from fishersft.reporting.sheets import Row, Sheet
from fishersft.reporting.text import count, interval, number, p_value, percent

_LABELS: dict[Basis, str] = {"tokens and steps": "At equal tokens and steps", "sentences": "At equal sentences"}


def summary(comparison: Comparison) -> Sheet:
    """The outcome of every choice at equal tokens and steps, in one table."""
    differences = {(item.method, item.budget): item for item in comparison.versus if item.basis == "tokens and steps"}
    on_target = any(arm.on_target is not None for arm in comparison.arms)
    filtered = any(item.filter_share is not None for item in differences.values())
    worth = any(arm.worth is not None for arm in comparison.arms)
    several = len({arm.budget for arm in comparison.arms}) > 1
    shown = (several, True, on_target, True, True, True, True, filtered, worth)
    columns = (
        f"Budget, {comparison.unit}",
        "Examples",
        "On target",
        "Tokens",
        "Steps",
        f"Perplexity{comparison.macro} [95%]",
        f"Difference from uniform{comparison.macro}, nats/token [95%]",
        "Share of the perfect filter's gain",
        "Worth in uniform tokens",
    )
    rows = [
        Row((arm.method,), _where(shown, _summary_cells(arm, differences.get((arm.method, arm.budget)))))
        for arm in (comparison.base, *comparison.arms)
    ]
    return Sheet("Outcome at equal tokens and steps", ("Choice", *_where(shown, columns)), rows)


def versus(comparison: Comparison, basis: Basis) -> Sheet:
    """Every method at every budget against a uniform choice that is equal in `basis`."""
    orders = comparison.orders > 1
    rows = [Row((item.method,), _cells(item, orders)) for item in comparison.versus if item.basis == basis]
    columns = (
        "Method",
        f"Budget, {comparison.unit}",
        "Sentences, and uniform's",
        "Tokens, and uniform's",
        "Steps, and uniform's",
        f"Mean{comparison.macro}, nats a token [interval]",
        "p, corrected",
        *(["SD over orders"] if orders else []),
        "Worst tenth [interval]",
        "Its p",
        "Worst sentence [interval]",
        "Win rate [interval]",
        "Its p, corrected",
        "Verdict on the mean",
    )
    return Sheet(f"{_LABELS[basis]}: difference from uniform", columns, rows, words=columns[-1:])


def verdicts(comparison: Comparison, basis: Basis) -> Sheet:
    """What `versus` says, in the few columns that a terminal has room for."""
    rows = [
        Row(
            (item.method,),
            (
                count(item.budget),
                interval(item.mean, 3),
                p_value(item.p_corrected),
                interval(item.worst_tenth, 3),
                interval(item.win_rate),
                item.verdict,
            ),
        )
        for item in comparison.versus
        if item.basis == basis
    ]
    columns = (
        "Method",
        comparison.unit,
        f"Mean{comparison.macro}, nats a token",
        "p",
        "Worst tenth",
        "Win rate",
        "Verdict",
    )
    return Sheet(f"{_LABELS[basis]}: difference from uniform", columns, rows, words=columns[-1:])


def duels(comparison: Comparison) -> list[Sheet]:
    """The first method against each other choice, a row a budget: win rates as the paper lays them out, likelihoods."""
    if not comparison.duels:
        return []
    first = comparison.duels[0].method
    others = list(dict.fromkeys(duel.other for duel in comparison.duels))
    told = {(duel.budget, duel.other): duel for duel in comparison.duels}
    budgets = list(dict.fromkeys(duel.budget for duel in comparison.duels))
    columns = (f"Budget, {comparison.unit}", *others)

    def sheet(title: str, cell: Callable[[Versus], str]) -> Sheet:
        rows = [Row((count(budget),), tuple(cell(told[budget, other]) for other in others)) for budget in budgets]
        return Sheet(title, columns, rows)

    equal = f"of as many {comparison.unit}"
    return [
        sheet(f"{first} {equal}: how often the judge preferred it to", lambda duel: interval(duel.win_rate)),
        sheet(f"{first} {equal}: nats a token less those of", _likelihood_cell),
    ]


def groups(comparison: Comparison) -> Sheet:
    """Every method on every group of held-out sentences, the group that the base model predicts worst first."""
    column, several = str(comparison.macro_column), len({item.budget for item in comparison.groups}) > 1
    shown = (several, *[True] * 7)
    columns = (
        f"Budget, {comparison.unit}",
        column,
        "Difference from uniform [95%]",
        "Method",
        "Uniform",
        "Base model",
        "Held-out sentences",
        "Tokens",
    )
    rows = [Row((item.method,), _where(shown, _group_cells(item))) for item in comparison.groups]
    title = f"By {column}, nats/token {_LABELS[comparison.unit_basis].lower()}"
    return Sheet(title, ("Choice", *_where(shown, columns)), rows, words=(column,))


def arms(comparison: Comparison) -> Sheet:
    """What every way to choose came to by itself, the mean over seeds."""
    money = any(arm.money is not None for arm in comparison.arms)
    rows = [Row((arm.method,), _arm_cells(arm, money)) for arm in (comparison.base, *comparison.arms)]
    columns = (
        "Choice",
        f"Budget, {comparison.unit}",
        "Seeds",
        "Sentences",
        "Tokens each: a tenth, half, nine tenths have at most",
        "Tokens an epoch",
        "Steps",
        f"Mean{comparison.macro}, nats a token",
        "Worst tenth",
        "Worst sentence",
        "Seconds to choose",
        "to train",
        "to judge",
        *(["Money"] if money else []),
    )
    return Sheet("Every choice by itself", columns, rows)


def trainings(comparison: Comparison) -> Sheet:
    """Every training by itself, a row each: of a method, or of its uniform control."""
    orders = comparison.orders > 1
    rows = [
        Row(
            (training.method,) if training.control is None else ("uniform", training.method),
            (
                "" if training.control is None else f"equal {training.control}",
                count(training.budget),
                str(training.seed),
                *([str(training.order + 1)] if orders else []),
                count(training.sentences),
                count(training.tokens),
                count(training.steps),
                number(training.mean, 3),
                number(training.worst_tenth, 3),
                number(training.worst, 3),
                number(training.win_rate_at_equal_tokens),
                number(training.win_rate_at_equal_sentences),
                number(training.seconds_choosing, 1),
                number(training.seconds_training, 1),
            ),
        )
        for training in comparison.trainings
    ]
    columns = (
        "Choice",
        "Control at",
        f"Budget, {comparison.unit}",
        "Seed",
        *(["Order"] if orders else []),
        "Sentences",
        "Tokens an epoch",
        "Steps",
        f"Mean{comparison.macro}, nats a token",
        "Worst tenth",
        "Worst sentence",
        "Win rate at equal tokens",
        "at equal sentences",
        "Seconds to choose",
        "to train",
    )
    return Sheet("Every training", columns, rows, words=("Control at",))


def judges(comparison: Comparison) -> Sheet:
    """Who judged, whether they tell real text from shuffled, by place or by content, and how far they agree."""
    rows = [
        Row(
            (judge.name,),
            (
                interval(judge.calibration),
                "fit" if judge.fit else "unfit",
                count(judge.pairs),
                count(judge.unreadable),
                number(judge.first_chosen),
                number(judge.kappa),
                count(judge.tokens),
                number(judge.cost),
            ),
        )
        for judge in comparison.judges
    ]
    columns = (
        "Judge",
        "Real over shuffled text [interval]",
        "Calibration",
        "Pairs judged",
        "Unreadable",
        "First shown is chosen",
        "Kappa with the first judge",
        "Tokens",
        "Cost",
    )
    return Sheet("The judges", columns, rows, words=("Calibration",))


def _likelihood_cell(duel: Versus) -> str:
    shown = "" if duel.verdict == "no difference was shown" else f", {duel.verdict}"
    return interval(duel.mean, 3) + shown


def _cells(item: Versus, orders: bool) -> tuple[str, ...]:
    return (
        count(item.budget),
        _both(item.sentences, item.other_sentences),
        _both(item.tokens, item.other_tokens),
        _both(item.steps, item.other_steps),
        interval(item.mean, 3),
        p_value(item.p_corrected),
        *([number(item.deviation_over_orders, 3)] if orders else []),
        interval(item.worst_tenth, 3),
        p_value(item.worst_tenth_p_corrected),
        interval(item.worst, 3),
        interval(item.win_rate),
        p_value(item.win_p_corrected),
        item.verdict,
    )


def _arm_cells(arm: Arm, money: bool) -> tuple[str, ...]:
    trained = arm.steps > 0
    return (
        count(arm.budget if trained else None),
        count(arm.seeds if trained else None),
        number(arm.sentences if trained else None, 0),
        ", ".join(number(length, 0) for length in arm.lengths) if arm.lengths else number(None),
        number(arm.tokens if trained else None, 0),
        number(arm.steps if trained else None, 0),
        number(arm.mean, 3),
        number(arm.worst_tenth, 3),
        number(arm.worst, 3),
        number(arm.seconds_choosing, 1),
        number(arm.seconds_training, 1),
        number(arm.seconds_judging, 1),
        *([number(arm.money, 2)] if money else []),
    )


def _summary_cells(arm: Arm, difference: Versus | None) -> tuple[str, ...]:
    trained = arm.steps > 0
    share = None if difference is None else difference.filter_share
    return (
        count(arm.budget if trained else None),
        number(arm.sentences if trained else None, 0),
        percent(arm.on_target),
        number(arm.tokens if trained else None, 0),
        number(arm.steps if trained else None, 0),
        interval(arm.perplexity, 1),
        interval(None if difference is None else difference.mean, 3),
        percent(share),
        number(None) if arm.worth is None else f"{arm.worth.side} {number(arm.worth.tokens, 0)}",
    )


def _group_cells(item: GroupOutcome) -> tuple[str, ...]:
    return (
        count(item.budget),
        item.group,
        interval(item.difference, 3),
        number(item.mean, 3),
        number(item.uniform, 3),
        number(item.base, 3),
        count(item.sentences),
        count(item.tokens),
    )


def _where(shown: tuple[bool, ...], cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cell for wanted, cell in zip(shown, cells, strict=True) if wanted)


def _both(mine: float, other: float) -> str:
    return f"{number(mine, 0)}, {number(other, 0)}"
