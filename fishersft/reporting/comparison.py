"""What a comparison found, as data: its page, its tables and `comparison.json` are all made from this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fishersft.reporting.summary import Facts, Interval, JudgeFacts, read_facts

SURE = 0.05  # a corrected p-value below this counts as shown
Basis = Literal["tokens and steps", "sentences"]


class Worth(Facts):
    """How many tokens of a uniform choice do as well; beyond what was measured only on which side of it they lie."""

    side: Literal["about", "less than", "more than"]
    tokens: float


class Arm(Facts):
    """A way to choose at one budget: what was chosen, and how its models did, the mean over seeds.

    `lengths` are the tokens that a tenth, half and nine tenths of the chosen sentences have at most, as the choosing
    model counts them; None of the base model.
    `mean`, `worst_tenth` and `worst` are held-out negative log-likelihoods in nats a token: over all tokens, over those
    of the tenth of the sentences that the base model predicts worst, and of each model's own worst sentence. Seconds
    are of all seeds together, of choosing with the embeddings and scores that it needs;
    `money` is what they cost, judging included, None where no price is known.
    `on_target` is the share of the chosen tokens that a perfect filter keeps, None where the comparison has none;
    `worth` is None where the uniform choice was not trained at larger budgets.
    """

    method: str
    budget: int
    seeds: int
    sentences: float
    lengths: tuple[float, float, float] | None
    tokens: float
    steps: float
    mean: float
    perplexity: Interval
    worst_tenth: float
    worst: float
    on_target: float | None = None
    worth: Worth | None = None
    seconds_choosing: float
    seconds_training: float
    seconds_judging: float
    money: float | None


class Training(Facts):
    """One training: of a method, or of a uniform choice that is its control in some basis (then `control` says which).

    Likelihoods as of `Arm`; the win rates are the first judge's against the two controls, None for a control. `order`
    is the number of its order of training, from 0, of which the first alone is judged.
    """

    method: str
    budget: int
    seed: int
    control: Basis | None
    order: int = 0
    sentences: int
    tokens: int
    steps: int
    mean: float
    worst_tenth: float
    worst: float
    win_rate_at_equal_tokens: float | None
    win_rate_at_equal_sentences: float | None
    seconds_choosing: float
    seconds_training: float


class Versus(Facts):
    """A method against another choice that is equal in `basis`; differences in nats a token, under 0 it is better.

    `other` is the uniform choice, but in a head-to-head.
    `p` is of the difference of the means, `p_corrected` that for the number of those on the same basis (Holm), and
    likewise for the worst tenth and the win rate. `excluded_gain` is the gain in the mean that a one-sided test at 5%
    excludes. `filter_share` is the mean's share of what the perfect filter of the same budget gains, None where there
    is none that gains. `worst_tenth` is None where one cluster of sentences holds all of it. `win_rate` is the judge's;
    None where the texts were all the same. `deviation_over_orders` is the standard deviation of the mean difference
    over orders of training the same choices, None where each was trained in one.
    """

    method: str
    other: str
    budget: int
    basis: Basis
    sentences: float
    other_sentences: float
    tokens: float
    other_tokens: float
    steps: float
    other_steps: float
    mean: Interval
    excluded_gain: float
    filter_share: float | None = None
    deviation_over_orders: float | None = None
    p: float
    p_corrected: float
    worst_tenth: Interval | None
    worst_tenth_p: float | None
    worst_tenth_p_corrected: float | None
    worst: Interval
    win_rate: Interval | None
    win_p: float | None
    win_p_corrected: float | None

    @property
    def verdict(self) -> str:
        """Better, worse, or not shown to differ, in words."""
        if self.p_corrected >= SURE:
            return "no difference was shown"
        return "better" if self.mean.value < 0 else "worse"


class GroupOutcome(Facts):
    """A method against uniform choices of as many tokens (or sentences, by the budget's unit) on one group, as a task.

    `group` is a value of the comparison's `macro_column`. `base`, `uniform` and `mean` are nats a token over the
    group's tokens, of the model before training, of the uniform choices and of the method, means over seeds;
    `difference` is the last less the one before, and its interval is not corrected for the number of groups.
    """

    method: str
    budget: int
    group: str
    sentences: int
    tokens: int
    base: float
    uniform: float
    mean: float
    difference: Interval


class Judge(Facts):
    """A judge: whether it is fit, by how often it preferred real text to the same words shuffled, and what it cost.

    `first_chosen` is how often it named the first text of a pair, over all pairs; `kappa` its agreement with the first
    judge, None for that one.
    """

    name: str
    fit: bool
    calibration: Interval
    pairs: int
    unreadable: int
    first_chosen: float | None
    kappa: float | None
    tokens: int
    cost: float | None

    @classmethod
    def of(cls, facts: JudgeFacts) -> Judge:
        """What a comparison tells of a judge that it asked about many pairs."""
        pairs = sum(rate.prompts for rate in facts.win_rates)
        first = sum(rate.first_chosen.value * rate.prompts for rate in facts.win_rates)
        return cls(
            name=facts.name,
            fit=facts.fit,
            calibration=facts.calibration.rate,
            pairs=pairs,
            unreadable=sum(rate.unreadable for rate in facts.win_rates),
            first_chosen=first / pairs if pairs else None,
            kappa=facts.agreement.kappa if facts.agreement else None,
            tokens=facts.tokens,
            cost=facts.cost,
        )


class Comparison(Facts):
    """Everything that a comparison's page shows.

    `counted_by_choosing_model` where another model was trained
    than the one that chose: budgets and equal tokens are then the latter's, the tables' tokens the former's.
    Likelihoods are means over `orders` trainings of each choice. `duels` is empty where no head-to-head was asked for.
    With a `macro_column` the outcome is the macro mean over its values, everywhere but for the worst tenth and
    sentence, and `groups` tell each value's by itself. With a `cluster_column` its values, `clusters` of them, are
    what intervals are over, but for win rates and worst sentences.
    """

    name: str
    unit: Literal["sentences", "tokens"]
    seeds: int
    orders: int = 1
    held_out: int
    counted_by_choosing_model: bool
    base: Arm
    arms: list[Arm]
    versus: list[Versus]
    duels: list[Versus]
    macro_column: str | None = None
    cluster_column: str | None = None
    clusters: int | None = None
    groups: tuple[GroupOutcome, ...] = ()
    trainings: list[Training]
    judges: list[Judge]
    warnings: list[str]
    config: dict[str, Any]
    versions: dict[str, str]

    @property
    def unit_basis(self) -> Basis:
        """What is equal where controls have as much of what the budget counts."""
        return "tokens and steps" if self.unit == "tokens" else "sentences"

    @property
    def headline(self) -> str:
        """The verdict at equal tokens and steps, in one sentence."""
        fair = [item for item in self.versus if item.basis == "tokens and steps"]
        told = [self._told(item) for item in fair if item.p_corrected < SURE]
        one = "training" if self.orders == 1 else "seed"
        once = "" if self.seeds > 1 else f" One {one} each, so the intervals do not cover the luck of training."
        if not told:
            excluded = max(item.excluded_gain for item in fair)
            return (
                f"No difference in held-out likelihood{self.macro} was shown between a uniform choice and "
                f"{_listed(fair)} at {self.equal}; gains above {excluded:.3f} nats a token are excluded.{once}"
            )
        left = len(fair) - len(told)
        others = "the other" if left == 1 else f"the other {left}"
        rest = f"; for {others} no difference was shown" if left else ""
        return f"Compared with a uniform choice at {self.equal}{self.macro}: {'; '.join(told)}{rest}.{once}"

    @property
    def equal(self) -> str:
        """What is equal at "equal tokens and steps"; tokens are by whole sentences, so within one of them."""
        if self.counted_by_choosing_model:
            return "equal tokens as the choosing model counts them and equal steps"
        return "equal tokens and steps"

    @property
    def macro(self) -> str:
        """What the outcome is a mean over, where that is not all tokens."""
        return "" if self.macro_column is None else f" (macro mean over {self.macro_column})"

    @property
    def worst_group(self) -> str | None:
        """The group of held-out sentences that the base model predicts worst, the same for all methods."""
        return max(self.groups, key=lambda of: of.base).group if self.groups else None

    def _told(self, item: Versus) -> str:
        p = "p < 0.001" if item.p_corrected < 0.001 else f"p {item.p_corrected:.2g}"
        difference = f"{abs(item.mean.value):.3f} nats a token {item.verdict}"
        return f"{item.method} ({item.budget:,} {self.unit}) is {difference} ({p})"


def _listed(items: list[Versus]) -> str:
    names = list(dict.fromkeys(item.method for item in items))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def read_comparison(path: Path) -> Comparison:
    """Reads a `comparison.json`.

    Raises:
        InputError: the file is missing, or is not a comparison of this version.
    """
    return read_facts(path, Comparison, "a comparison")
