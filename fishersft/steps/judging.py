"""A judge compares pairs of texts in both orders: artifacts of kind "judgements"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.data.keys import digest_of
from fishersft.data.store import Draft, Store
from fishersft.models.judging import PROTOCOL_VERSION, Pair, Verdict, harmless, known_rank_pairs
from fishersft.steps.judges import PreparedJudge
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.verdicts import find_or_ask

JUDGING_VERSION = 3


def judge_pairs(
    store: Store,
    judge: PreparedJudge,
    inputs: dict[str, Any],
    read_pairs: Callable[[], Sequence[Pair]],
    on_progress: OnProgress | None = None,
    sources: Sequence[str] = (),
) -> Outcome:
    """A judge's verdicts on pairs of texts, in both orders: an artifact of kind "judgements".

    Its table has a row a pair: `choice`, the place that the judge named (1 or 2; 0: none) with the first text first,
    `swapped_choice`, the same with it second, `identical` where both texts are the same, which leaves nothing to ask,
    and `unreadable` where an answer of the two names neither text. Its facts count pairs (`prompts`), tokens of all
    verdicts whenever they were asked for, and how many of those were asked for now.

    Args:
        inputs: what determines the pairs.
        read_pairs: the pairs; called where there is no such artifact yet.
        on_progress: called with (questions done, in all).
        sources: the artifacts that the pairs are from, each as "kind/key".

    Raises:
        InputError: the judge fails; what it said so far is kept in the store.
    """

    def write(draft: Draft) -> None:
        pairs = _as_shown(read_pairs())
        differ = [pair for pair in pairs if pair[0] != pair[1]]
        found = find_or_ask(store, judge, [order for pair in differ for order in (pair, pair[::-1])], on_progress)
        draft.sources.extend(found.sources)
        pq.write_table(_table(pairs, found.verdicts), draft.folder / "judgements.parquet")
        draft.facts.update(prompts=len(pairs), **_tokens(found.verdicts), asked=found.asked)

    params = {"protocol": PROTOCOL_VERSION, "question": asdict(judge.question)}
    return find_or_make(
        store,
        "judgements",
        JUDGING_VERSION,
        params,
        {"judge": judge.identity, **inputs},
        write,
        [*sources, *judge.sources],
    )


def judge_texts(
    store: Store, judge: PreparedJudge, pairs: Sequence[Pair], on_progress: OnProgress | None = None
) -> Outcome:
    """`judge_pairs` for pairs that are at hand and no artifact's."""
    return judge_pairs(store, judge, {"pairs": digest_of(_as_shown(pairs))}, lambda: pairs, on_progress)


def calibrate_on(
    store: Store,
    judge: PreparedJudge,
    texts: Sequence[str],
    most: int,
    seed: int,
    on_progress: OnProgress | None = None,
    sources: Sequence[str] = (),
) -> Outcome:
    """Whether a judge tells real texts from the same words shuffled: judgements of real against shuffled.

    Args:
        texts: real ones.
        most: at most so many pairs are made of them.
        seed: of the shuffling.
    """
    pairs = known_rank_pairs([harmless(text) for text in texts], most, seed)
    return judge_pairs(store, judge, {"pairs": digest_of(pairs)}, lambda: pairs, on_progress, sources)


def _as_shown(pairs: Sequence[Pair]) -> list[Pair]:
    return [(harmless(first), harmless(second)) for first, second in pairs]


def _table(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> pa.Table:
    """A row a pair; `verdicts` are those on the pairs that differ, two each, in order."""
    choices = iter([verdict.choice for verdict in verdicts])
    rows = []
    for first, second in pairs:
        identical = first == second
        choice, swapped_choice = (0, 0) if identical else (next(choices), next(choices))
        rows.append((choice, swapped_choice, identical, not identical and 0 in (choice, swapped_choice)))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = {"choice": pa.int8(), "swapped_choice": pa.int8(), "identical": pa.bool_(), "unreadable": pa.bool_()}
    return pa.table({name: pa.array(column, types[name]) for name, column in zip(types, columns, strict=True)})


def _tokens(verdicts: Sequence[Verdict]) -> dict[str, int]:
    read = sum(verdict.input_tokens for verdict in verdicts)
    written = sum(verdict.output_tokens for verdict in verdicts)
    return {"tokens": read + written, "input_tokens": read, "output_tokens": written}
