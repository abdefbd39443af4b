"""How much of what was chosen is on target, where a column of the corpus says which rows are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fishersft.config.compare import MethodConfig
from fishersft.data.store import Store
from fishersft.steps.corpus import shard_rows
from fishersft.steps.picks import load_picks


def share_on_target(store: Store, selections: Sequence[str], perfect_filter: MethodConfig) -> float:
    """The share of the chosen tokens that are in rows the perfect filter keeps, the mean over selections.

    Examples of the target itself count as on target; its rows need not have the column.

    Args:
        selections: keys of selections.
        perfect_filter: the method that names the column and the value.
    """
    shares, rows = [], dict[str, list[bool]]()
    for selection in selections:
        picks = load_picks(store, selection)
        for shard in {*picks.shards} - rows.keys():
            rows[shard] = [_is_good(row, perfect_filter) for row in shard_rows(store, shard)]
        good = [rows[shard][row] for shard, row in zip(picks.shards, picks.rows, strict=True)]
        shares.append(float(np.average(good, weights=picks.tokens)))
    return float(np.mean(shares))


def _is_good(row: dict[str, object], perfect_filter: MethodConfig) -> bool:
    assert perfect_filter.column is not None
    return str(row.get(perfect_filter.column, perfect_filter.keep)) == perfect_filter.keep
