"""From settings to a call of `select`, and from its result to what is told of it: for artifacts and for block files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fishersft.config import SelectionConfig
from fishersft.config.selection import AIMED
from fishersft.data.block_files import read_weights
from fishersft.numerics import (
    Certificate,
    Progress,
    Selection,
    StoredBlocks,
    TokenBlocks,
    information_gains_along,
    select,
)
from fishersft.numerics.blocks import Blocks
from fishersft.numerics.greedy import OnProgress as OnPick
from fishersft.numerics.mapped import WeightedBlocks
from fishersft.numerics.prior import start_factor
from fishersft.numerics.projection import unseen_gain_bound
from fishersft.numerics.v_optimal import moment_factor, prediction_variance, second_moment
from fishersft.steps.outcome import OnProgress

_METHODS = {"prefix": "by the prefix bound", "frank-wolfe": "by the dual of the relaxation (Frank-Wolfe)"}
_SAME_NAME = {
    "budget",
    "budget_unit",
    "stop_below",
    "regularization",
    "regularization_unit",
    "project_to",
    "certificate",
    "certificate_seconds",
    "algorithm",
}


def choose(
    blocks: Blocks, settings: SelectionConfig, on_progress: OnProgress | None = None, **conditions: Any
) -> Selection:
    """`select` by these settings.

    Args:
        blocks: the pool; weighted already, where the criterion weighs tokens.
        settings: all but quotas and extends, which name what the caller reads:
        conditions: arguments of `select` of other names.
        on_progress: called with (budget spent, budget, a note of picks, gain and proof so far).
    """
    return select(
        blocks,
        **settings.model_dump(include=_SAME_NAME),
        criterion="v-optimal" if settings.criterion == "v-optimal" else "information",
        on_progress=None if on_progress is None else _reporting(on_progress, settings),
        **conditions,
    )


def stored_pool(files: Sequence[Path], memory: int, criterion: str) -> Blocks:
    """The blocks of some files, left there; weighted as they are read, where the criterion weighs tokens.

    Args:
        files: safetensors, as an embeddings artifact has.
        memory: bytes for the whole selection.
    """
    blocks = StoredBlocks(files, memory)
    if criterion != "fisher-weighted":
        return blocks
    return WeightedBlocks(blocks, torch.cat([read_weights(file) for file in files]))


def selection_facts(selection: Selection) -> dict[str, Any]:
    """What is told of a selection, as JSON; `certificate` is None where there is no proof."""
    proof, loss = selection.certificate, selection.projection_loss
    return {
        "sentences": len(selection),
        "tokens": int(selection.tokens.sum()),
        "criterion": selection.criterion,
        "information_gain": selection.information_gain,
        "regularization": selection.regularization,
        "rule": selection.rule,
        "evaluations": selection.evaluations,
        "exhausted": selection.exhausted,
        "stopped": selection.stopped,
        "certificate": None if proof is None else str(proof),
        "upper_bound": None if proof is None else proof.upper_bound,
        "method": None if proof is None else proof.method,
        "projection_loss_nats": None if loss is None else loss.bound_nats,
    }


def projection_facts(
    of_shards: Sequence[dict[str, Any]], indices: np.ndarray, kept: int, regularization: float
) -> dict[str, Any]:
    """What embeddings that were projected before they were stored do not show of some picks.

    Args:
        of_shards: facts of the embeddings artifacts, in the order of the pool.
        indices: (n,), the picks' places in the pool.
        kept: dimensions that are left.
        regularization: lambda.
    """
    energy, discarded = (
        float(np.concatenate([facts[name] for facts in of_shards])[indices].sum())
        for name in ("energy", "discarded_energy")
    )
    tokens = int(np.concatenate([facts["lengths"] for facts in of_shards])[indices].sum())
    directions = min(of_shards[0]["dim"] - kept, tokens)
    return {
        "embedded_in": f"{kept} of {of_shards[0]['dim']} random directions",
        "energy_kept": 1 - discarded / energy if energy else 1.0,
        "unseen_nats": unseen_gain_bound(discarded, directions, regularization),
    }


def variance_facts(selection: Selection, target: TokenBlocks, earlier: TokenBlocks | None) -> dict[str, float]:
    """The mean prediction variance over the target's tokens, before anything was chosen and after."""
    start = start_factor(target.dim, selection.regularization, earlier, None)
    cholesky = torch.eye(target.dim, dtype=torch.float64) if start is None else start
    before = prediction_variance(cholesky, moment_factor(second_moment(target, selection.regularization)))
    return {"variance_before": before, "variance": before - math.fsum(selection.gains)}


def proof_sentence(facts: dict[str, Any]) -> str:
    """What is proven of a selection, and how: "at least 96.1% of the best possible within its budget, proven …"."""
    if facts["certificate"] is None:
        return f"no certificate: the criterion {facts['criterion']} is not submodular"
    return f"{facts['certificate']} within its budget, proven {_METHODS[facts['method']]}"


def embeddings_in_words(facts: dict[str, Any]) -> str:
    """In which directions embeddings were kept, and what that leaves out of a selection's gain."""
    return (
        f"in {facts['embedded_in']}, which hold {facts['energy_kept']:.1%} of the picks' energy: gains and what is "
        f"proven are of these; at most {facts['unseen_nats']:,.4g} nats of the picks' gain are in the others"
    )


def settings_in_words(settings: SelectionConfig, facts: dict[str, Any]) -> dict[str, str]:
    """How a selection was made, for people: the budget, the criterion and what else was asked for."""
    lam = f"{settings.regularization:g}"
    if settings.regularization_unit != "absolute":
        lam += f" × {settings.regularization_unit} = {facts['regularization']:.4g}"
    words = {
        "Budget": f"{settings.budget:,} {settings.budget_unit}",
        "Criterion": settings.criterion,
        "Regularization": lam,
    }
    if settings.budget_unit == "tokens" and settings.criterion not in AIMED:
        words["Chosen by"] = facts["rule"]
    if settings.stop_below:
        words["Stop below"] = f"{settings.stop_below:g}, {'reached' if facts['stopped'] else 'not reached'}"
    if settings.quotas:
        quotas = ", ".join(f"{value}: {most:,}" for value, most in settings.quotas.items())
        words["Quotas"] = f"by {settings.quota_column}, at most {quotas}"
    if settings.extends is not None:
        words["Extends"] = f"selection {settings.extends[:12]}"
        if facts["removed_since"]:
            words["Extends"] += f", without {facts['removed_since']:,} picks removed from the corpus since"
    if settings.exclude:
        words["Never chosen"] = f"{len(settings.exclude):,} excluded examples"
    if "embedded_in" in facts:
        words["Embeddings"] = embeddings_in_words(facts)
    if settings.project_to is not None:
        overlooked = f"at most {facts['projection_loss_nats']:.4g} nats of its gain overlooked"
        words["Projected to"] = f"{settings.project_to} dimensions; {overlooked}"
    if "variance" in facts:
        words["Variance on the target"] = f"{facts['variance_before']:.4g} before, {facts['variance']:.4g} after"
    if "mismatch" in facts:
        words["Strays from its aim's gradient"] = f"{facts['mismatch']:.2g} times as far as a uniform choice, squared"
    if facts["upper_bound"] is not None:
        words["No selection can gain more than"] = f"{facts['upper_bound']:,.2f} nats, {_METHODS[facts['method']]}"
    return words


def gains_of(blocks: Blocks, indices: np.ndarray, regularization: float, earlier: TokenBlocks | None) -> np.ndarray:
    """What each pick adds to those before it, whoever chose them: (n,), nats."""
    start = start_factor(blocks.dim, regularization, earlier, None)
    return information_gains_along(blocks, indices, regularization, start)


def _reporting(on_progress: OnProgress, settings: SelectionConfig) -> OnPick:
    def report(progress: Progress) -> None:
        on_progress(progress.spent, progress.spendable, _note(progress, settings))

    return report


def _note(progress: Progress, settings: SelectionConfig) -> str:
    picks = f"{progress.picks:,} picks"
    if settings.criterion == "v-optimal":
        return f"{picks}, variance less {progress.gain:.4g}"
    gained = f"{picks}, {progress.gain:,.0f} nats"
    if settings.project_to is not None:  # gain and bound are of the projected pool: no ratio of the real one
        return f"{gained} in {settings.project_to} dimensions"
    if progress.upper_bound is None or not math.isfinite(progress.upper_bound):
        return gained
    return f"{gained}, {Certificate(progress.gain, progress.upper_bound, 'prefix')}"
