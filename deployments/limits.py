"""The global concurrency limit for the devices of one machine, which its workers name in FISHERSFT_DEVICE_LIMIT."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectNotFound

DEVICE_LIMIT = "fishersft-device"


def ensure_device_limit(client: SyncPrefectClient) -> None:
    """Creates the limit with one slot; one that is there keeps the slots that somebody gave it."""
    try:
        client.read_global_concurrency_limit_by_name(DEVICE_LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=DEVICE_LIMIT, limit=1))
