"""What one run did: which artifacts it found and which it made, and what of the pool is new since the run before."""

from __future__ import annotations

from collections.abc import Sequence

from fishersft.config import CurateConfig
from fishersft.data.keys import digest_of
from fishersft.data.runs import Run, RunRecord
from fishersft.data.store import Store
from fishersft.reporting.summary import Growth, StoreUse, ThisRun
from fishersft.steps.corpus import load_index, shard_texts
from fishersft.steps.outcome import Outcome


def settings_digest(config: CurateConfig) -> str:
    """The digest of all settings, as the run's record has it."""
    return digest_of(config.model_dump(mode="json"))


def report_of_the_same(config: CurateConfig, corpus: str, run: Run, previous: RunRecord | None) -> str | None:
    """The report of the run before, where this one goes on from it and neither corpus nor settings have changed.

    Then the run has nothing to do, and its record is as that of the run before: what that uses stays in the store.

    Args:
        corpus: the corpus artifact's key.
        previous: the record of the last finished run of that name.
    """
    if config.selection.extends != "previous" or previous is None or "report" not in previous.facts:
        return None
    if (previous.facts["corpus"], previous.facts["settings"]) != (corpus, settings_digest(config)):
        return None
    run.uses(*previous.roots)
    run.note(**previous.facts)
    return previous.facts["report"]


def describe_run(
    store: Store, steps: Sequence[Outcome], corpus: str, embedded: Sequence[Outcome], previous: RunRecord | None
) -> ThisRun:
    """What a run did so far.

    Args:
        steps: the outcomes of all its steps.
        corpus: the corpus artifact's key.
        embedded: of the pool's shards, in the order of the corpus's shards.
        previous: the record of the last finished run of that name.
    """
    return ThisRun(uses=_uses(steps), growth=_growth(store, corpus, embedded, previous))


def _uses(steps: Sequence[Outcome]) -> list[StoreUse]:
    kinds = dict.fromkeys(step.kind for step in steps)
    return [_use(kind, [step for step in steps if step.kind == kind]) for kind in kinds]


def _use(kind: str, steps: Sequence[Outcome]) -> StoreUse:
    found = [step for step in steps if step.hit]
    made = [step for step in steps if not step.hit]
    return StoreUse(
        kind=kind,
        found=len(found),
        made=len(made),
        seconds_made=sum(step.seconds for step in made),
        seconds_saved=sum(step.seconds for step in found),
    )


def _growth(store: Store, corpus: str, embedded: Sequence[Outcome], previous: RunRecord | None) -> Growth | None:
    before_key = None if previous is None else previous.facts.get("corpus")
    if previous is None or before_key is None or store.find("corpus", before_key) is None:
        return None
    now, before = load_index(store, corpus).shards, load_index(store, before_key).shards
    tokens = {shard: outcome.facts["tokens"] for shard, outcome in zip(now, embedded, strict=True)}
    new, dropped = set(now) - set(before), set(before) - set(now)
    if any(store.find("shard", shard) is None for shard in dropped):
        return None  # they were removed from the store, so which of the rows are new is not known
    # Shards that both have hold the same rows, so only the others need to be read.
    rows_now, rows_before = _rows(store, new), _rows(store, dropped)
    new_rows = len(rows_now - rows_before)
    return Growth(
        since=previous.started.isoformat(timespec="minutes"),
        sentences_new=new_rows,
        sentences_kept=sum(outcome.facts["sentences"] for outcome in embedded) - new_rows,
        sentences_removed=len(rows_before - rows_now),
        shards_new=len(new),
        shards_reused=len(set(now) & set(before)),
        shards_dropped=len(dropped),
        tokens_new=sum(tokens[shard] for shard in new),
        tokens_reused=sum(tokens[shard] for shard in set(now) & set(before)),
    )


def _rows(store: Store, shards: set[str]) -> set[str]:
    """A digest of each row."""
    return {digest_of(text) for shard in sorted(shards) for text in shard_texts(store, shard)}
