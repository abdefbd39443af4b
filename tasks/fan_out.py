"""Embedding on the workers of a Prefect deployment: a sub-run a batch of shards, and what is lost taken up again."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from fishersft.config import CurateConfig
from fishersft.errors import InputError
from fishersft.steps.batches import guided_batches
from fishersft.steps.missing_shards import MadeOfShards, ShardToEmbed, missing_shards, shards_to_embed
from fishersft.steps.outcome import open_store, used
from tasks.progress import Progress
from tasks.step import step
from tasks.sub_runs import SubRun, Workers, cancelled_on_error, wait_for

ROUNDS = 3
_AT_ONCE = 8  # sub-runs, where the pool has no concurrency limit that would say it


@step("find the workers of {deployment}")
def find_workers(deployment: str) -> Workers:
    """The workers of the deployment of that name.

    Raises:
        InputError: Prefect's server has no such deployment.
    """
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(deployment).work_pool_name
        except ObjectNotFound as error:
            raise InputError(
                f"embedding.deployment is {deployment}, but Prefect's server at {client.api_url} has no such "
                "deployment; register it (see deployments/prefect.yaml), set PREFECT_API_URL to the server that has "
                "it, or leave embedding.deployment empty to embed here"
            ) from error
        limit = None if pool is None else client.read_work_pool(pool).concurrency_limit
    return Workers(deployment, pool, limit or _AT_ONCE)


@step("embed {what} on {workers.deployment}")
def embed_on_workers(
    config: CurateConfig, workers: Workers, shards: list[str], what: str, kind: MadeOfShards = "embeddings"
) -> list[str]:
    """Has workers make embeddings or gradients of shards where the store lacks them, and waits; the keys of these.

    A sub-run that failed, or that gives no sign of life, is over; what it left is taken up in the next round.

    Raises:
        InputError: after the last round shards are missing still.
    """
    store, progress = open_store(config.store), Progress(f"embedding {what} on {workers.deployment}", "shards")
    wanted = shards_to_embed(store, config, shards, kind)
    todo = missing = missing_shards(store, wanted)
    faults = list[str]()
    for number in range(1, ROUNDS + 1):
        if not missing:
            break
        with cancelled_on_error() as runs:
            _submit(runs, workers, config, missing, f"{what}, round {number}")
            faults += wait_for(runs, store, workers, lambda left: progress(len(wanted) - left, len(wanted)))
        missing = missing_shards(store, missing)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(wanted)} shards of {what} are not embedded after {ROUNDS} rounds on "
            f"{workers.deployment}, the first is {missing[0].shard[:12]}. The last fault: {faults[-1]}. See that "
            "sub-run's logs, mend what is wrong, and run again: what was embedded is in the store"
        )
    for shard in todo:  # made by this run, wherever that was
        used(store, store.get(shard.kind, shard.key), hit=False)
    return [shard.key for shard in todo]


def _submit(runs: list[SubRun], workers: Workers, config: CurateConfig, shards: list[ShardToEmbed], what: str) -> None:
    """Adds to `runs` a sub-run for each batch of the shards."""
    batches = guided_batches([shard.tokens for shard in shards], workers.at_once)
    get_run_logger().info("%s: %s shards in %s sub-runs", what, len(shards), len(batches))
    settings = config.model_dump(mode="json")
    for number, batch in enumerate(batches, start=1):
        missing = [shards[place] for place in batch]
        name = f"embed {what}: batch {number} of {len(batches)}"
        run = run_deployment(
            workers.deployment,
            parameters={
                "config": settings,
                "shards": [shard.shard for shard in missing],
                "kind": missing[0].kind,
            },
            flow_run_name=name,
            timeout=0,
            as_subflow=True,
        )
        assert isinstance(run, FlowRun), "the synchronous call returns the run"
        runs.append(SubRun(run.id, name, missing))
