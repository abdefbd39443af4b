"""What a run found, as data: the HTML page, the tables in the UI and `report.json` are all made from this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fishersft.errors import InputError


class Facts(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")  # a diverged run's figures survive being written


Kind = TypeVar("Kind", bound=Facts)


class Interval(Facts):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: Sequence[float]) -> Interval:
        """That of an estimate of `numerics`, a tuple that begins with value, low and high."""
        value, low, high = estimate[:3]
        return cls(value=value, low=low, high=high)


class CorpusFacts(Facts):
    """How the rows of the corpus were used; all are counts of rows."""

    sources: list[str]
    rows_read: int
    blank: int
    unmatched: int
    duplicates: int
    beyond_max_rows: int
    held_out: int
    pool: int
    truncated: int
    without_loss: int
    bad: int = 0
    lost: int = 0
    formats: dict[str, int] = {}


class OverlapFacts(Facts):
    """What held-out examples and the pool share: runs of so many words, or all of a shorter example.

    `held_out` and `pool` count the examples that overlap with the other side; `left_out` says whether those held out
    were evaluated on.
    """

    words: int
    held_out: int
    pool: int
    left_out: bool


class SelectionFacts(Facts):
    """One selection: `information_gain` and `tokens` are cumulative, one entry a pick, in nats and loss tokens.

    `certificate` is a sentence that says how near to the best possible it is, or why that is not proven; `settings`
    say how it was made, in words.
    """

    method: str
    sentences: int
    information_gain: list[float]
    tokens: list[int]
    lengths: list[int]
    certificate: str = ""
    settings: dict[str, str] = {}


class ChosenRow(Facts):
    """A chosen example, as shown to people; `text` is hostile input and may be cut.

    `id` is what `selection.exclude` takes; empty in reports of before there were ids.
    """

    rank: int
    id: str = ""
    gain: float
    tokens: int
    source: str
    row: int
    text: str


class LossPreview(Facts):
    """An example as the model sees it; `pieces` are hostile text, each with whether the loss counts its tokens.

    `not_shown` tokens follow the last piece; `truncated` says that the model sees only the beginning of the example.
    """

    source: str
    row: int
    pieces: list[tuple[str, bool]]
    tokens: int
    loss_tokens: int
    truncated: bool
    not_shown: int


class TrainingFacts(Facts):
    """One fine-tuning run; `losses` holds (step, training loss in nats per token), `held_out_losses` the same of the
    held-out sentences that early stopping looked at, after each epoch.

    `steps` were taken; the weights are those after `steps_kept` of them, fewer where a later epoch was no better.
    `tokens_chosen` are an epoch's tokens as the model that chose counts them, where that is not the one trained here.
    """

    method: str
    sentences: int
    tokens_per_epoch: int
    epochs: int
    steps: int
    steps_kept: int
    seconds: float
    losses: list[tuple[int, float]]
    held_out_losses: list[tuple[int, float]] = []
    tokens_chosen: int | None = None


class LikelihoodFacts(Facts):
    """A model on the held-out sentences; the intervals are over sentences.

    `worst_decile_nats` is the mean over the tenth of the sentences that the base model predicts worst,
    `worst_sentence_nats` this model's worst of all, both in nats per token.
    """

    method: str
    sentences: int
    tokens: int
    perplexity: Interval
    worst_decile_nats: Interval
    worst_sentence_nats: Interval


class Comparison(Facts):
    """Method against other on the same held-out sentences.

    The ratio of perplexities is under 1, and the difference on the base model's worst tenth, in nats per token, under 0
    if method is better.
    """

    method: str
    other: str
    perplexity_ratio: Interval
    worst_decile_difference: Interval
    verdict: str


class WinRate(Facts):
    """Method against other before the judge, both orders each; a tie (orders disagree) counts one half.

    `identical` counts the pairs whose two texts were the same: they are not judged and not in `prompts`. `unreadable`
    counts those that are ties because an answer named neither text: a refusal, or words without a 1 or a 2.
    """

    method: str
    other: str
    prompts: int
    wins: int
    losses: int
    ties: int
    identical: int = 0
    unreadable: int = 0
    rate: Interval
    first_chosen: Interval
    verdict: str


class TaskFigure(Facts):
    """A model's figure on a task, with its standard error where there is one."""

    value: float
    stderr: float | None


class TaskScore(Facts):
    """A metric of one of lm-evaluation-harness's tasks, by method."""

    task: str
    metric: str
    figures: dict[str, TaskFigure]


class Agreement(Facts):
    """How far a judge agrees with the first one on the same pairs, each a win, a loss or a tie.

    `kappa` is Cohen's, the agreement beyond chance; NaN where both said the same of every pair.
    """

    pairs: int
    same: float
    kappa: float


class JudgeFacts(Facts):
    """A judge: whether it tells real text from the same words shuffled, and what it said of the models.

    `cost` is that of all its verdicts, in the currency of the configured prices; None without prices. `agreement` is
    None for the first judge.
    """

    name: str
    calibration: WinRate
    win_rates: list[WinRate]
    tokens: int
    cost: float | None
    agreement: Agreement | None

    @property
    def fit(self) -> bool:
        """Whether it is shown to prefer real text more often than not."""
        return self.calibration.rate.low > 0.5


class Completion(Facts):
    """A held-out prompt and what each model made of it, by method."""

    prompt: str
    completions: dict[str, str]


class StepCost(Facts):
    """What a step cost when it was computed; `tokens` is None where none are processed."""

    step: str
    artifacts: int
    tokens: int | None
    seconds: float


class StoreUse(Facts):
    """How many artifacts of a kind a run found in the store and made; what those found had cost is `seconds_saved`."""

    kind: str
    found: int
    made: int
    seconds_made: float
    seconds_saved: float


class Growth(Facts):
    """How the pool differs from that of the last run of the same name, which started at `since`."""

    since: str
    sentences_new: int
    sentences_kept: int
    sentences_removed: int
    shards_new: int
    shards_reused: int
    shards_dropped: int
    tokens_new: int
    tokens_reused: int


class ThisRun(Facts):
    """What holds of one run only, not of the artifacts that it ends with: it is added when a report is published."""

    uses: list[StoreUse]
    growth: Growth | None


class RunReport(Facts):
    """Everything the report shows."""

    name: str
    judge: str
    corpus: CorpusFacts
    overlap: OverlapFacts
    pool_lengths: list[int]
    selections: list[SelectionFacts]
    previews: list[LossPreview] = []
    chosen: list[ChosenRow]
    trainings: list[TrainingFacts]
    likelihoods: list[LikelihoodFacts]
    comparisons: list[Comparison]
    win_rates: list[WinRate]
    harness: list[TaskScore] = []
    judges: list[JudgeFacts] = []
    completions: list[Completion]
    costs: list[StepCost]
    this_run: ThisRun | None = None
    headline: str
    warnings: list[str]
    config: dict[str, Any]
    versions: dict[str, str]


def read_report(path: Path) -> RunReport:
    """Reads a `report.json`.

    Raises:
        InputError: the file is missing, or is not a report of this version.
    """
    return read_facts(path, RunReport, "a report")


def read_facts(path: Path, kind: type[Kind], what: str) -> Kind:
    """Reads what a page was made from, of that kind; `what` names it in errors.

    Raises:
        InputError: the file is missing, or of another kind or version.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; name the {path.name} of a run, or the folder that holds it") from error
    except ValidationError as error:
        raise InputError(f"{path}: not {what} of this version of FisherSFT: {error.error_count()} faults") from error
