"""Merging the shards' embeddings and choosing sentences: selections as artifacts, by a criterion or at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fishersft import baselines
from fishersft.config import CurateConfig, SelectionConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, bytes_of, read_spectrum
from fishersft.data.examples import ID_DIGITS
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.numerics import Blocks, Selection, TokenBlocks
from fishersft.numerics.prior import absolute_regularization
from fishersft.numerics.spectra import first_gains
from fishersft.steps.choosing import choose, gains_of, projection_facts, selection_facts, stored_pool, variance_facts
from fishersft.steps.conditions import Earlier, allowed_lengths, column_values, conditions, why_nothing_fits
from fishersft.steps.corpus import load_index
from fishersft.steps.matching import match_gradients
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.picks import shard_blocks

SELECTION_VERSION = 5
UNIFORM_VERSION = 1


def select_informative(
    store: Store,
    config: CurateConfig,
    corpus: str,
    embeddings: Sequence[str],
    target: Sequence[str] = (),
    on_progress: OnProgress | None = None,
    *,
    gradients: Sequence[str] = (),
) -> Outcome:
    """Greedy selection by the config's criterion over all shards: an artifact of kind "selection".

    The saved gains are information gains in nats, whatever the criterion; with "v-optimal" the column
    `variance_reduction` has what each pick took off the mean prediction variance. A selection that was cut short
    goes on where it was.

    Args:
        corpus: the corpus artifact's key.
        embeddings: the embeddings artifacts' keys, in the order of the corpus's shards.
        target: those of the target, for the criteria "v-optimal" and "gradient-matching"; where gradients of all layers
            are matched, the keys of the target's gradients artifacts.
        on_progress: called with (budget spent, budget, a note of picks, gain and proof so far).
        gradients: where gradients of all layers are matched, the pool's gradients artifacts' keys, in the same order.
    """
    config = config.resolved()
    settings = config.selection
    index, column = load_index(store, corpus), settings.quota_column
    all_layers = config.matches_all_layers
    assert all_layers == bool(gradients), "gradients artifacts are for matching all layers"
    sketches = [f"gradients/{key}" for key in gradients] or [f"embeddings/{key}" for key in embeddings]
    towards = [f"{'gradients' if all_layers else 'embeddings'}/{key}" for key in target]

    def pick(blocks: Blocks, earlier: Earlier, checkpoint: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        groups = None if column is None else column_values(store, index, column, "selection.quota_column")
        if settings.criterion == "gradient-matching":
            return match_gradients(store, settings, sketches, towards, blocks, earlier, on_progress, groups)
        aims = [shard_blocks(store, key, settings.criterion) for key in target]
        aim = TokenBlocks.concatenate(aims) if aims else None
        selection = choose(
            blocks,
            settings,
            on_progress,
            target=aim,
            already_selected=earlier.blocks,
            exclude=earlier.indices,
            groups=groups,
            quotas=settings.quotas,
            first_gains=_first_gains(store, embeddings, blocks, settings),
            device=config.device,
            checkpoint=checkpoint,
        )
        if not len(selection):
            raise InputError(_why_empty(settings, selection, blocks, earlier))
        facts = selection_facts(selection)
        columns = {"index": selection.indices, "gain": selection.gains}
        if aim is not None:
            facts |= variance_facts(selection, aim, earlier.blocks)
            columns |= {
                "gain": gains_of(blocks, selection.indices, selection.regularization, earlier.blocks),
                "variance_reduction": selection.gains,
            }
        return columns, facts

    inputs = {"target": list(target), **({"gradients": list(gradients)} if all_layers else {})}
    sources = [*(sketches if all_layers else ()), *towards]
    return save_selection(
        store, config, corpus, embeddings, SELECTION_VERSION, _params(settings), inputs, pick, sources
    )


def select_uniform(store: Store, config: CurateConfig, corpus: str, embeddings: Sequence[str], tokens: int) -> Outcome:
    """A seeded uniform selection of about `tokens` loss tokens, with its gains: an artifact of kind "selection".

    The gains are by the config's regularization and weights, so that they compare with those of the informative
    selection; what an earlier selection chose, or is excluded, is left out of both. Quotas do not bind it.
    """
    config = config.resolved()
    settings = config.selection

    def pick(blocks: Blocks, earlier: Earlier, _: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        others = np.setdiff1d(np.arange(len(blocks)), earlier.indices)
        drawn = baselines.uniform(blocks.lengths.numpy()[others], tokens, budget_unit="tokens", seed=config.seed)
        indices = others[drawn]
        lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
        return {"index": indices, "gain": gains_of(blocks, indices, lam, earlier.blocks)}, {}

    params: dict[str, Any] = {
        "method": "uniform",
        "tokens": tokens,
        "seed": config.seed,
        "regularization": settings.regularization,
        "criterion": settings.criterion,
    }
    if settings.regularization_unit != "absolute":  # only then, so that earlier draws keep their key
        params["regularization_unit"] = settings.regularization_unit
    if settings.extends is not None:
        params["extends"] = settings.extends
    params |= _excluded(settings)
    return save_selection(store, config, corpus, embeddings, UNIFORM_VERSION, params, {}, pick)


def _params(settings: SelectionConfig) -> dict[str, Any]:
    """What changes the picks or what is proven of them; the target is told by its embeddings."""
    aside = {"memory", "exclude"}
    aside |= set() if settings.certificate == "frank-wolfe" else {"certificate_seconds"}
    aside |= set() if settings.gradients == "all layers" else {"gradients"}  # so that earlier selections keep their key
    return {**settings.model_dump(exclude=aside), **_excluded(settings)}


def _excluded(settings: SelectionConfig) -> dict[str, Any]:
    """The ids that are never chosen, in one form; nothing where there are none, so that those keep their key."""
    return {"exclude": sorted({name[:ID_DIGITS] for name in settings.exclude})} if settings.exclude else {}


def _why_empty(settings: SelectionConfig, selection: Selection, blocks: Blocks, earlier: Earlier) -> str:
    if selection.stopped:
        return f"selection.stop_below {settings.stop_below:g}: no sentence of the pool adds as much; lower it"
    return why_nothing_fits(settings, allowed_lengths(blocks.lengths.numpy(), earlier)) or (
        "nothing may be chosen: selection.quotas leave no sentence with a token; loosen them"
    )


def _pool(store: Store, embeddings: Sequence[str], settings: SelectionConfig) -> Blocks:
    """The blocks of all shards: in memory, or where they would take more than `settings.memory` on disk."""
    size = sum(file.size for key in embeddings for file in store.get("embeddings", key).files)
    if size <= bytes_of(settings.memory):
        return TokenBlocks.concatenate([shard_blocks(store, key, settings.criterion) for key in embeddings])
    files = [store.fetch("embeddings", key) / EMBEDDINGS_FILE for key in embeddings]
    return stored_pool(files, bytes_of(settings.memory), settings.criterion)


def _first_gains(store: Store, embeddings: Sequence[str], blocks: Blocks, settings: SelectionConfig) -> np.ndarray:
    """No less than what each block gains by itself, from the spectra that lie beside the blocks.

    Those are of blocks without weights; as no Fisher weight is over 1, they bound weighted blocks' gains too.
    """
    lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
    found = []
    for key in embeddings:
        lengths = torch.tensor(store.get("embeddings", key).facts["lengths"], dtype=torch.int64)
        found.append(first_gains(read_spectrum(store.fetch("embeddings", key) / EMBEDDINGS_FILE), lengths, lam))
    return np.concatenate(found)


def save_selection(
    store: Store,
    config: CurateConfig,
    corpus: str,
    embeddings: Sequence[str],
    version: int,
    params: dict[str, Any],
    further_inputs: dict[str, Any],
    pick: Callable[[Blocks, Earlier, Path], tuple[dict[str, np.ndarray], dict[str, Any]]],
    sources: Sequence[str] = (),
    shards: Sequence[str] | None = None,
) -> Outcome:
    """Saves what `pick` gives: columns of which `index` is the pick's place in the pool, and facts.

    Args:
        version: of what chooses.
        params: all settings that change the picks.
        further_inputs: digests of what else is read, of which `sources` names the artifacts.
        pick: given the pool, what is known already, and a file for a checkpoint.
        shards: what is chosen from, each with its embeddings; None: the corpus's.
    """
    index = load_index(store, corpus)
    shards = index.shards if shards is None else list(shards)
    assert len(shards) == len(embeddings), "one embeddings artifact a shard"

    def write(draft: Draft) -> None:
        blocks = _pool(store, embeddings, config.selection)
        earlier = conditions(store, config, index, embeddings)
        columns, facts = pick(blocks, earlier, draft.checkpoint)
        if config.selection.extends is not None:
            facts["removed_since"] = earlier.removed
        indices = columns.pop("index")
        of_shards = [store.get("embeddings", key).facts for key in embeddings]
        if config.embedding.project_to is not None:
            settings = config.selection
            lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
            facts |= projection_facts(of_shards, indices, blocks.dim, lam)
        sizes = [of_shard["sentences"] for of_shard in of_shards]
        shard_of = np.repeat(np.arange(len(shards)), sizes)
        row_of = np.concatenate([np.arange(size) for size in sizes])
        tokens = blocks.lengths.numpy()[indices]
        table = pa.table(
            {
                "rank": pa.array(range(1, len(indices) + 1), pa.int64()),
                "shard": pa.array([shards[place] for place in shard_of[indices]], pa.string()),
                "row": pa.array(row_of[indices], pa.int64()),
                "tokens": pa.array(tokens, pa.int64()),
                **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
            }
        )
        pq.write_table(table, draft.folder / "selection.parquet")
        draft.facts.update(
            facts, sentences=len(indices), tokens=int(tokens.sum()), information_gain=float(np.sum(columns["gain"]))
        )

    inputs = {"shards": shards, "embeddings": list(embeddings), **further_inputs}
    sources = [f"corpus/{corpus}", *(f"embeddings/{key}" for key in embeddings), *sources]
    if config.selection.extends is not None:
        inputs["held_out"] = index.held_out  # which earlier picks are still in the corpus hangs on it too
        sources.append(f"selection/{config.selection.extends}")
    return find_or_make(store, "selection", version, params, inputs, write, sources)
