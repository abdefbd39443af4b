"""The report's tables as text, the same for the page, the terminal and Prefect's UI."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from fishersft.reporting.summary import RunReport, StepCost, TaskFigure, TrainingFacts
from fishersft.reporting.text import count, interval, number

_CORPUS_FACTS = (
    ("rows_read", "Rows read", "all rows of all files"),
    ("blank", "Blank", "empty or only white space: left out"),
    ("unmatched", "Unmatched", "did not match the configured pattern: left out"),
    ("bad", "Bad", "not an example, or not JSON: left out, as the configuration asks for"),
    ("duplicates", "Duplicates", "exact copies of another row: left out"),
    ("beyond_max_rows", "Over the limit", "not in the sample that the configuration asks for"),
    ("held_out", "Held out", "set aside for evaluation, never chosen or trained on"),
    ("pool", "Pool", "what the selections chose from"),
    ("without_loss", "Without loss", "part of the pool, but with no token that the loss counts: never chosen"),
    ("truncated", "Cut", "longer than the model takes: cut to fit, and still used"),
    ("lost", "Lost by the cut", "cut before the first token that the loss counts: never chosen"),
)


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is about (one label, or the two methods of a comparison), and its cells."""

    about: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def heading(self) -> str:
        """The first cell as text: "d-optimal against uniform"."""
        return " against ".join(self.about)


@dataclass(frozen=True)
class Sheet:
    """A table: its title, its columns (the first is the rows' heading) and which of them hold words."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    words: tuple[str, ...] = ()
    total: Row | None = None


def key_numbers(report: RunReport) -> Sheet:
    """One row for every method that was evaluated, fine-tuned or selected, in that order."""
    steps = {facts.method: _steps(facts) for facts in report.trainings}
    likelihoods = {facts.method: facts for facts in report.likelihoods}
    rows = []
    for method in dict.fromkeys([*likelihoods, *steps, *(facts.method for facts in report.selections)]):
        sentences, tokens = _budget(report, method) or (None, None)
        likelihood = likelihoods.get(method)
        cells = (
            count(sentences),
            count(tokens),
            steps.get(method, count(None)),
            interval(likelihood.perplexity if likelihood else None, 1),
            interval(likelihood.worst_decile_nats if likelihood else None, 3),
            interval(likelihood.worst_sentence_nats if likelihood else None, 3),
        )
        rows.append(Row((method,), cells))
    columns = (
        "Model",
        "Sentences",
        "Tokens an epoch",
        "Steps",
        "Perplexity [interval]",
        "Worst decile, nats",
        "Worst sentence, nats",
    )
    return Sheet("Key numbers", columns, rows)


def comparisons(report: RunReport) -> Sheet:
    """Each pair's perplexities and worst deciles, with its verdict and the budget at which it was measured."""
    rows = [
        Row(
            (item.method, item.other),
            (
                interval(item.perplexity_ratio, 3),
                interval(item.worst_decile_difference, 3),
                item.verdict,
                budget_basis(report, item.method, item.other),
            ),
        )
        for item in report.comparisons
    ]
    columns = ("Pair", "Perplexity ratio [interval]", "Worst decile, nats more [interval]", "Verdict", "Compared at")
    return Sheet("Likelihood, compared", columns, rows, words=columns[3:])


def win_rates(report: RunReport) -> Sheet:
    """What the judge preferred, each pair with its position bias, verdict and budget."""
    any_identical = any(item.identical for item in report.win_rates)
    rows = [
        Row(
            (item.method, item.other),
            (
                f"{item.wins:,}, {item.losses:,}, {item.ties:,}",
                *([count(item.identical)] if any_identical else []),
                interval(item.rate),
                interval(item.first_chosen),
                item.verdict,
                budget_basis(report, item.method, item.other),
            ),
        )
        for item in report.win_rates
    ]
    columns = (
        "Pair",
        "Wins, losses, ties",
        *(["Identical"] if any_identical else []),
        "Win rate [interval]",
        "First shown is chosen",
        "Verdict",
        "Compared at",
    )
    return Sheet("What the judge preferred", columns, rows, words=columns[-2:])


def harness(report: RunReport) -> Sheet:
    """Each metric of lm-evaluation-harness's tasks, a column a model, with its standard error."""
    methods = tuple(dict.fromkeys(method for score in report.harness for method in score.figures))
    rows = [
        Row((score.task,), (score.metric, *(_figure(score.figures.get(method)) for method in methods)))
        for score in report.harness
    ]
    return Sheet("Tasks of lm-evaluation-harness", ("Task", "Metric", *methods), rows, words=("Metric",))


def judges(report: RunReport) -> Sheet:
    """Whether each judge tells real text from shuffled, what it preferred, and how far it agrees with the first."""
    rows = [
        Row(
            (judge.name,),
            (
                interval(judge.calibration.rate),
                "fit" if judge.fit else "unfit",
                *(interval(rate.rate) for rate in judge.win_rates),
                count(sum(rate.unreadable for rate in judge.win_rates)),
                number(judge.agreement.kappa if judge.agreement else None, 2),
                count(judge.tokens),
                number(judge.cost, 4),
            ),
        )
        for judge in report.judges
    ]
    compared = report.judges[0].win_rates if report.judges else []
    columns = (
        "Judge",
        "Real over shuffled text [interval]",
        "Calibration",
        *(f"{rate.method} over {rate.other} [interval]" for rate in compared),
        "Unreadable",
        "Kappa with the first judge",
        "Tokens",
        "Cost",
    )
    return Sheet("The judges", columns, rows, words=("Calibration",))


def selection(report: RunReport) -> Sheet:
    """How the selection was made: its budget, criterion and conditions, and what it was proven by."""
    rows = [Row((name,), (words,)) for facts in report.selections for name, words in facts.settings.items()]
    return Sheet("How it was chosen", ("Setting", "Value"), rows, words=("Value",))


def lengths(report: RunReport) -> Sheet:
    """How long the sentences of the pool and of every selection are, in loss tokens."""
    groups = [("pool", report.pool_lengths), *((facts.method, facts.lengths) for facts in report.selections)]
    rows = [
        Row(
            (name,),
            (
                count(len(lengths)),
                count(sum(lengths)),
                number(statistics.fmean(lengths), 1),
                number(statistics.median(lengths), 1),
                count(max(lengths)),
            ),
        )
        for name, lengths in groups
        if lengths
    ]
    return Sheet("Lengths", ("Of", "Sentences", "Tokens", "Mean", "Median", "Longest"), rows)


def corpus(report: RunReport) -> Sheet:
    """How the rows of the corpus were used, and how many of them are much the same on both sides."""
    rows = [Row((label,), (count(getattr(report.corpus, name)), why)) for name, label, why in _CORPUS_FACTS]
    rows += [Row((f"Read as {what}",), (count(number), "")) for what, number in report.corpus.formats.items()]
    overlap = report.overlap
    shared = f"{overlap.words} words in a row, or all of a shorter one,"
    fate = "not evaluated on" if overlap.left_out else "evaluated on all the same"
    rows += [
        Row(("Held out, overlapping",), (count(overlap.held_out), f"{shared} are in the pool too: {fate}")),
        Row(("Pool, overlapping",), (count(overlap.pool), f"{shared} are held out too: part of the pool")),
    ]
    return Sheet("The corpus", ("Rows", "Count", "Meaning"), rows, words=("Meaning",))


def costs(report: RunReport) -> Sheet:
    """What every step cost when it was computed, and all together."""
    rows = [
        Row((cost.step,), (count(cost.artifacts), count(cost.tokens), number(cost.seconds, 1), _rate(cost)))
        for cost in report.costs
    ]
    artifacts = sum(cost.artifacts for cost in report.costs)
    seconds = sum(cost.seconds for cost in report.costs)
    total = Row(("Total",), (count(artifacts), "", number(seconds, 1), ""))
    columns = ("Step", "Artifacts", "Tokens", "Seconds", "Tokens a second")
    return Sheet("What it cost", columns, rows, total=total)


def store_use(report: RunReport) -> Sheet:
    """What this run found in the store and what it made, a row a kind of artifact."""
    uses = report.this_run.uses if report.this_run else []
    rows = [
        Row(
            (use.kind,),
            (count(use.found), count(use.made), number(use.seconds_made, 1), number(use.seconds_saved, 1)),
        )
        for use in uses
    ]
    total = Row(
        ("Total",),
        (
            count(sum(use.found for use in uses)),
            count(sum(use.made for use in uses)),
            number(sum(use.seconds_made for use in uses), 1),
            number(sum(use.seconds_saved for use in uses), 1),
        ),
    )
    columns = ("Kind", "Found", "Made", "Seconds to make", "Seconds saved")
    return Sheet("Found in the store, or made", columns, rows, total=total)


def growth(report: RunReport) -> Sheet:
    """What is new since the last run of that name; no rows where there was none."""
    grown = report.this_run.growth if report.this_run else None
    if grown is None:
        return Sheet("Since the last run", ("Of", "New", "Reused", "Dropped"), [])
    rows = [
        Row(("Sentences",), (count(grown.sentences_new), count(grown.sentences_kept), count(grown.sentences_removed))),
        Row(("Shards",), (count(grown.shards_new), count(grown.shards_reused), count(grown.shards_dropped))),
        Row(("Tokens embedded",), (count(grown.tokens_new), count(grown.tokens_reused), "")),
    ]
    return Sheet(f"Since the last run, of {grown.since}", ("Of", "New", "Reused", "Dropped"), rows)


def budget_basis(report: RunReport, method: str, other: str) -> str:
    """What the two methods of a comparison had in common: equal tokens, equal sentences, both or neither.

    Tokens are called equal when they differ by no more than the longest sentence that either chose: a token
    budget cannot be met more closely than by a whole sentence. The numbers are always given too.
    """
    mine, others = _budget(report, method), _budget(report, other)
    if mine is None or others is None:
        untrained = [name for name, budget in ((method, mine), (other, others)) if budget is None]
        return f"no common budget: {' and '.join(untrained)} not fine-tuned"
    lengths = [n for facts in report.selections if facts.method in (method, other) for n in facts.lengths]
    equal = []
    if abs(mine[1] - others[1]) <= max(lengths, default=0):
        equal.append(f"equal tokens ({count(mine[1])} and {count(others[1])} an epoch)")
    elif (chosen := _tokens_chosen(report, method, other)) and abs(chosen[0] - chosen[1]) <= max(lengths):
        equal.append(
            f"equal tokens to the model that chose ({count(chosen[0])} and {count(chosen[1])}; to the model that was "
            f"trained {count(mine[1])} and {count(others[1])} an epoch)"
        )
    if mine[0] == others[0]:
        equal.append(f"equal sentences ({count(mine[0])} each)")
    if equal:
        return " and ".join(equal)
    return (
        f"unequal budgets: {count(mine[0])} and {count(others[0])} sentences, "
        f"{count(mine[1])} and {count(others[1])} tokens an epoch"
    )


def _budget(report: RunReport, method: str) -> tuple[int, int] | None:
    """Sentences and loss tokens an epoch of a method; None for a model that was not fine-tuned."""
    for training in report.trainings:
        if training.method == method:
            return training.sentences, training.tokens_per_epoch
    for selection in report.selections:
        if selection.method == method:
            return selection.sentences, sum(selection.lengths)
    return None


def _figure(figure: TaskFigure | None) -> str:
    if figure is None or figure.stderr is None:
        return number(figure.value if figure else None, 4)
    return f"{number(figure.value, 4)} ± {number(figure.stderr, 4)}"


def _tokens_chosen(report: RunReport, method: str, other: str) -> tuple[int, int] | None:
    """Two trainings' tokens as the model that chose counts them; None where that is the one that was trained."""
    chosen = {facts.method: facts.tokens_chosen for facts in report.trainings}
    mine, others = chosen.get(method), chosen.get(other)
    return None if mine is None or others is None else (mine, others)


def _steps(training: TrainingFacts) -> str:
    if training.steps_kept == training.steps:
        return count(training.steps)
    return f"{count(training.steps_kept)} of {count(training.steps)}"


def _rate(cost: StepCost) -> str:
    return number(cost.tokens / cost.seconds if cost.tokens is not None and cost.seconds > 0 else None, 0)
