"""What a selection has to heed beside its budget: quotas, an earlier selection that it extends, and exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fishersft.config import CurateConfig, SelectionConfig
from fishersft.data.examples import ID_DIGITS
from fishersft.data.runs import Run, RunRecord
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks
from fishersft.steps.corpus import CorpusIndex, shard_examples, shard_rows
from fishersft.steps.picks import load_picks, picked_blocks, picked_examples


@dataclass(frozen=True)
class Earlier:
    """What earlier selections chose, as far as the corpus still has it.

    Attributes:
        blocks: of their picks that are still in the corpus, held out now or not; None where there are none.
        picks: by earlier selection, its key, the places in it of those picks.
        indices: (n,), int64; the places in the pool that are not to be chosen, in order: where their examples are
            now, and those that `selection.exclude` names.
        removed: how many of their picks are no longer in the corpus, and so do not count.
    """

    blocks: TokenBlocks | None
    indices: np.ndarray
    removed: int
    picks: dict[str, list[int]] = field(default_factory=dict)


def allowed_lengths(lengths: np.ndarray, earlier: Earlier) -> np.ndarray:
    """(sentences,), int64: the tokens of each sentence of the pool, 0 where it is not to be chosen."""
    allowed = lengths.copy()
    allowed[earlier.indices] = 0
    return allowed


def why_nothing_fits(settings: SelectionConfig, allowed: np.ndarray) -> str | None:
    """Why not one sentence can be chosen, and what to do; None where one can.

    Args:
        allowed: of `allowed_lengths`.
    """
    if not allowed.any():
        return "nothing may be chosen: selection.extends or exclude leave no sentence with a token; loosen them"
    shortest = int(allowed[allowed > 0].min())
    if settings.budget_unit == "tokens" and shortest > settings.budget:
        return (
            f"selection.budget {settings.budget} tokens is less than the shortest sentence that may be chosen has "
            f"({shortest}); raise it"
        )
    return None


def conditions(store: Store, config: CurateConfig, index: CorpusIndex, embeddings: Sequence[str]) -> Earlier:
    """What earlier selections chose, as `earlier_selections` has it, and what else is not to be chosen.

    Raises:
        InputError: as `earlier_selections`; an id is that of no example of the pool; or they leave none.
    """
    earlier = earlier_selections(store, config, index, embeddings)
    if not config.selection.exclude:
        return earlier
    pool = {digest[:ID_DIGITS]: place for place, digest in enumerate(_digests(store, config, index.shards))}
    wanted = [name[:ID_DIGITS] for name in config.selection.exclude]
    if unknown := [name for name in wanted if name not in pool]:
        raise InputError(
            f"selection.exclude: no example of the pool has the id {', '.join(unknown)}; ids are in the tables of "
            "chosen examples, and a changed text has another"
        )
    excluded = np.array([pool[name] for name in wanted], dtype=np.int64)
    together = np.union1d(earlier.indices, excluded)
    if len(together) == len(pool):
        raise InputError("selection.exclude leaves no example of the pool; take some out")
    return replace(earlier, indices=together)


def earlier_selections(store: Store, config: CurateConfig, index: CorpusIndex, embeddings: Sequence[str]) -> Earlier:
    """The selection that `selection.extends` names, and those that it extends itself.

    Examples are found again by their content, so the corpus may have grown or moved since. What was removed from it
    since is in no later dataset either: it tells nothing that a new pick would only repeat.

    Args:
        index: of the corpus now.
        embeddings: the keys of the pool's embeddings.

    Raises:
        InputError: there is no such selection, it was embedded otherwise, or it chose the whole pool.
    """
    keys = _chain(store, config.selection.extends)
    if not keys:
        return Earlier(None, np.empty(0, dtype=np.int64), 0)
    _check_embedded_alike(store, keys, embeddings[0])
    pool = _digests(store, config, index.shards)
    present = {*pool, *_digests(store, config, [index.held_out])}
    chosen, blocks, still = set[str](), list[torch.Tensor](), dict[str, list[int]]()
    removed = 0
    for key in keys:
        picks = [example.digest for example in picked_examples(store, config.corpus, load_picks(store, key))]
        still[key] = [place for place, digest in enumerate(picks) if digest in present]
        removed += len(picks) - len(still[key])
        chosen.update(picks[place] for place in still[key])
        of_picks = picked_blocks(store, key, config.selection.criterion)
        blocks += [of_picks[place] for place in still[key]]
    indices = np.array([i for i, digest in enumerate(pool) if digest in chosen], dtype=np.int64)
    if len(indices) == len(pool):
        raise InputError(
            f"selection.extends: the selection {keys[0]} holds every example of the pool; add examples, or leave it out"
        )
    return Earlier(TokenBlocks.from_sequence(blocks) if blocks else None, indices, removed, still)


def extending_previous(config: CurateConfig, previous: RunRecord | None) -> CurateConfig:
    """The config with the selection of the last finished run in the place of `selection.extends: previous`."""
    if config.selection.extends != "previous":
        return config
    earlier = None if previous is None else previous.facts.get("selection")
    return config.model_copy(update={"selection": config.selection.model_copy(update={"extends": earlier})})


def begin_selection(config: CurateConfig, previous: RunRecord | None, run: Run) -> CurateConfig:
    """`extending_previous`; what is extended is on record as in use from the start of the run."""
    config = extending_previous(config, previous)
    if config.selection.extends is not None:
        run.uses(f"selection/{config.selection.extends}")
    return config


def column_values(store: Store, index: CorpusIndex, column: str, setting: str) -> list[str]:
    """The value of a column as text, of each row of the pool, see `values_in`."""
    return values_in(store, index, index.shards, column, setting)


def values_in(store: Store, index: CorpusIndex, shards: Sequence[str], column: str, setting: str) -> list[str]:
    """The value of a column as text, of each row of some shards of a corpus.

    Args:
        setting: that names the column, for the error.

    Raises:
        InputError: a row lacks the column, or holds null there.
    """
    values = []
    for shard in shards:
        for number, row in enumerate(shard_rows(store, shard)):
            if row.get(column) is None:
                source, line = index.source_of(shard, number)
                raise InputError(
                    f"{source}:{line} has no {column!r}, which {setting} names; its columns are: {', '.join(row)}"
                )
            values.append(str(row[column]))
    return values


def _chain(store: Store, selection: str | None) -> list[str]:
    keys = []
    while selection is not None:
        keys.append(selection)
        selection = store.get("selection", selection).params.get("extends")
    return keys


def _check_embedded_alike(store: Store, selections: Sequence[str], embeddings: str) -> None:
    now = _embedded_by(store, embeddings)
    for key in selections:
        first = store.get("selection", key).inputs["embeddings"][0]
        if _embedded_by(store, first) != now:
            raise InputError(
                f"selection.extends: the selection {key} was embedded otherwise (another model, chat template, "
                "model.max_tokens, model.dtype or criterion), so what it tells cannot be counted here; embed alike, or "
                "leave it out"
            )


def _digests(store: Store, config: CurateConfig, shards: Sequence[str]) -> list[str]:
    return [example.digest for shard in shards for example in shard_examples(store, config.corpus, shard)]


def _embedded_by(store: Store, key: str) -> tuple[object, ...]:
    """How examples became embeddings; which examples they are is left out."""
    embeddings = store.get("embeddings", key)
    return embeddings.params, embeddings.inputs["model"], embeddings.facts.get("tokenised_by")
