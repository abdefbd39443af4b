"""What methods that compare with a target through a model go by, gathered before they choose."""

from __future__ import annotations

from collections.abc import Callable

from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig, Method
from fishersft.steps import features, warm_ups
from fishersft.steps.corpus import target_config
from fishersft.steps.outcome import Outcome, open_store
from fishersft.steps.towards_target import Evidence
from tasks.curation import logged
from tasks.devices import on_device
from tasks.progress import Progress
from tasks.step import step

_POOL, _TARGET = "the pool", "the target"


@step("represent shard {number} of {total} of {what}")
@on_device
def represent_shard(config: CurateConfig, shard: str, number: int, total: int, what: str) -> Outcome:
    """Shard → a vector an example, for RDS+."""
    progress = Progress(f"representing shard {number} of {total} of {what}", "tokens")
    return logged(features.represent_shard(open_store(config.store), config, shard, progress))


@step("tune on the target")
@on_device
def tune_on_target(config: CurateConfig, target: str) -> Outcome:
    """The target → the model fine-tuned on it, for cross-entropy difference."""
    progress = Progress("tuning on the target", "steps")
    return logged(warm_ups.tune_on_target(open_store(config.store), config, target, progress))


@step("measure shard {number} of {total} after tuning")
@on_device
def nats_after_tuning(config: CurateConfig, shard: str, number: int, total: int, tuned: str) -> Outcome:
    """Shard → nats per token of its examples under the model tuned on the target."""
    progress = Progress(f"measuring shard {number} of {total} after tuning", "examples")
    return logged(features.nats_after_tuning(open_store(config.store), config, shard, tuned, progress))


@step("warm up on a sample of the pool")
@on_device
def warm_up_on_pool(config: CurateConfig, corpus: str) -> Outcome:
    """A sample of the pool → LoRA adapters after each of 4 epochs, for LESS."""
    progress = Progress("warming up on a sample of the pool", "steps")
    return logged(warm_ups.warm_up_on_pool(open_store(config.store), config, corpus, progress))


@step("gradients of shard {number} of {total} of {what}, checkpoint {epoch}")
@on_device
def gradients_of_shard(
    config: CurateConfig, shard: str, number: int, total: int, what: str, warm_up: str, epoch: int
) -> Outcome:
    """Shard → the projected gradients of its examples at a checkpoint, counted from 0."""
    progress = Progress(f"gradients of shard {number} of {total} of {what}, checkpoint {epoch + 1}", "examples")
    store, adam = open_store(config.store), what == _POOL
    return logged(features.gradients_of_shard(store, config, shard, warm_up, epoch, adam, progress))


def gather(config: CompareConfig, corpus: Outcome, target: Outcome) -> tuple[dict[Method, Evidence], list[Outcome]]:
    """The evidence of each method that needs any, and the outcomes of all steps that it took."""
    found: dict[Method, Evidence] = {}
    outcomes: list[Outcome] = []
    wanted = {method.method for method in config.methods}
    for methods, gather_for in _WAYS:
        if wanted & set(methods):
            evidence, made = gather_for(config, corpus, target)
            found |= dict.fromkeys(methods, evidence)
            outcomes += made
    return found, outcomes


def _for_rds(config: CompareConfig, corpus: Outcome, target: Outcome) -> tuple[Evidence, list[Outcome]]:
    pool = [represent_shard(config, shard, n, of, _POOL) for shard, n, of in _shards(corpus)]
    aimed = target_config(config.aiming())
    aims = [represent_shard(aimed, shard, n, of, _TARGET) for shard, n, of in _shards(target)]
    return Evidence([_keys(pool)], [_keys(aims)], None), [*pool, *aims]


def _for_cross_entropy_difference(
    config: CompareConfig, corpus: Outcome, target: Outcome
) -> tuple[Evidence, list[Outcome]]:
    tuned = tune_on_target(config.aiming(), target.key)
    after = [nats_after_tuning(config, shard, n, of, tuned.key) for shard, n, of in _shards(corpus)]
    return Evidence([_keys(after)], [], tuned.key), [tuned, *after]


def _for_less(config: CompareConfig, corpus: Outcome, target: Outcome) -> tuple[Evidence, list[Outcome]]:
    warm_up = warm_up_on_pool(config, corpus.key)
    aimed = target_config(config.aiming())
    epochs = range(len(warm_up.facts["learning_rates"]))
    pool = [
        [gradients_of_shard(config, shard, n, of, _POOL, warm_up.key, epoch) for shard, n, of in _shards(corpus)]
        for epoch in epochs
    ]
    aims = [
        [gradients_of_shard(aimed, shard, n, of, _TARGET, warm_up.key, epoch) for shard, n, of in _shards(target)]
        for epoch in epochs
    ]
    outcomes = [warm_up, *(outcome for checkpoint in (*pool, *aims) for outcome in checkpoint)]
    evidence = Evidence([_keys(checkpoint) for checkpoint in pool], [_keys(part) for part in aims], warm_up.key)
    return evidence, outcomes


def _shards(corpus: Outcome) -> list[tuple[str, int, int]]:
    """Each shard's key, its number and how many there are."""
    keys = corpus.facts["shard_keys"]
    return [(key, number, len(keys)) for number, key in enumerate(keys, start=1)]


def _keys(outcomes: list[Outcome]) -> list[str]:
    return [outcome.key for outcome in outcomes]


_Gather = Callable[[CompareConfig, Outcome, Outcome], tuple[Evidence, list[Outcome]]]
_WAYS: tuple[tuple[tuple[Method, ...], _Gather], ...] = (
    (("rds+",), _for_rds),
    (("cross-entropy-difference",), _for_cross_entropy_difference),
    (("less", "less-round-robin"), _for_less),
)
